"""Why an open run does not go on, as far as its view says: it lacks a worker, or an agent. Pure.

`anabranch why` examines the log for every other reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

NOTICE_SECONDS = 5.0
"""A wait for a worker or an agent is told once it has lasted this long."""

_ENDED = ("completed", "failed", "cancelled", "timed_out")


def lacks_agent(agent: str) -> str:
    """The reason of a task whose offers come back from every worker that reads them."""
    return f"no worker that was asked has the agent {agent!r}"


UNSTARTED = "no TaskGroup has begun it: is one running? (anabranch taskgroup)"


def waits_for(view: Mapping[str, Any], now: float) -> str | None:
    """What an open run waits for that is not there; None where nothing is known to be missing.

    Args:
        view: see `anabranch.runtime.views`.
        now: seconds since the epoch.
    """
    if view.get("status") in _ENDED or view.get("ended_at") is not None:
        return None
    groups = list((view.get("groups") or {}).values())
    agents = [task.get("lacks_agent") for group in groups for task in group["tasks"].values()]
    submitted = view.get("submitted_at")
    has_begun = view.get("started_at") is not None or any(group["status"] != "waiting" for group in groups)
    return reason(filter(None, agents), None if has_begun or submitted is None else now - submitted)


def reason(agents: Iterable[str], unstarted: float | None) -> str | None:
    """The same out of single facts: agents that its tasks wait for, and for how long nothing of it has begun."""
    if names := sorted(set(agents)):
        return "; ".join(map(lacks_agent, names))
    return UNSTARTED if unstarted is not None and unstarted >= NOTICE_SECONDS else None
