"""The limits that a task shares with those of other runs, in the words of `anabranch plan`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anabranch.core.durations import format_duration
from anabranch.core.request.configured_limits import ConfiguredLimits
from anabranch.core.request.limits import Breaker, Concurrency, RateLimit


def shared_limits(task: Mapping[str, Any]) -> Iterator[str]:
    """What limits the members of a task of the plan's document: a rate, a breaker, a concurrency key, in the order
    in which they are asked."""
    if "rate_limit" in task:
        rate = RateLimit.model_validate(task["rate_limit"])
        key = task["agent"] if rate.key is None else rate.key
        yield f"  rate {key!r}: {_rate(rate)}"
    if "breaker" in task:
        yield f"  breaker: {_opens(Breaker.model_validate(task['breaker']))}"
    if "concurrency" in task:
        yield f"  key {places(task['concurrency'])}"
    for scope, limits in task.get("configured", {}).items():
        rate = limits.get("rate_limit")
        yield from () if rate is None else [f"  rate of the {scope}: {_rate(RateLimit.model_validate(rate))}"]
        if "concurrency" in limits:
            yield f"  {limits['concurrency']['limit']:,} at once of the {scope}"


def _rate(rate: RateLimit) -> str:
    burst = "" if rate.most_at_once == rate.limit else f", {rate.most_at_once:,} at once"
    return f"{rate.limit:,} in {format_duration(rate.per)}{burst}"


def add_configured(document: dict[str, Any], limits: ConfiguredLimits, project: str) -> None:
    """Add to each task of a plan what the settings say of its agent and its project. A configured breaker is in
    place of that which the agent declares."""
    of_project = limits.projects.get(project)
    for task in document.get("tasks", ()):
        if not task["agent"]:
            continue
        of_agent = limits.agents.get(task["agent"])
        if of_agent is not None and of_agent.breaker is not None:
            task["breaker"] = of_agent.breaker.to_document()
        found = {"project": of_project, "agent": of_agent}
        if shown := {scope: each.to_document() for scope, each in found.items() if each is not None}:
            task["configured"] = shown


def places(document: Mapping[str, Any]) -> str:
    """A concurrency key, the places that it has, and what happens while it is full unless members wait."""
    key = Concurrency.model_validate(document)
    full = "" if key.on_full == "queue" else f", {key.on_full} if full"
    return f"{key.key!r}: {key.limit:,} at once{full}"


def _opens(breaker: Breaker) -> str:
    many = f"{breaker.failures:,} failures" if breaker.rate is None else f"{breaker.rate:.0%} failures"
    then = ", fails members" if breaker.on_open == "fail" else ""
    return f"{many} in {format_duration(breaker.window)} open it for {format_duration(breaker.cooldown)}{then}"
