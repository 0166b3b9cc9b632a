"""The limits that a task shares with those of other runs, in the words of `anabranch plan`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anabranch.core.durations import format_duration
from anabranch.core.request.limits import Breaker, Concurrency, RateLimit


def shared_limits(task: Mapping[str, Any]) -> Iterator[str]:
    """What limits the members of a task of the plan's document: a rate, a breaker, a concurrency key, in the order
    in which they are asked."""
    if "rate_limit" in task:
        rate = RateLimit.model_validate(task["rate_limit"])
        key = task["agent"] if rate.key is None else rate.key
        burst = "" if rate.most_at_once == rate.limit else f", {rate.most_at_once:,} at once"
        yield f"  rate {key!r}: {rate.limit:,} in {format_duration(rate.per)}{burst}"
    if "breaker" in task:
        yield f"  breaker: {_opens(Breaker.model_validate(task['breaker']))}"
    if "concurrency" in task:
        yield f"  key {places(task['concurrency'])}"


def places(document: Mapping[str, Any]) -> str:
    """A concurrency key, the places that it has, and what happens while it is full unless members wait."""
    key = Concurrency.model_validate(document)
    full = "" if key.on_full == "queue" else f", {key.on_full} if full"
    return f"{key.key!r}: {key.limit:,} at once{full}"


def _opens(breaker: Breaker) -> str:
    many = f"{breaker.failures:,} failures" if breaker.rate is None else f"{breaker.rate:.0%} failures"
    then = ", fails members" if breaker.on_open == "fail" else ""
    return f"{many} in {format_duration(breaker.window)} open it for {format_duration(breaker.cooldown)}{then}"
