"""Why an open run does not progress, from its view: no worker runs, none has the agent, or a person has to decide.
Pure.

`anabranch why` examines the log for every other reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anabranch.core.names import agent_label
from anabranch.core.timestamps import utc_text
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.run_view import RunView

NOTICE_SECONDS = 5.0
"""Seconds that a wait for a worker or an agent lasts before it is reported."""

_ENDED = ("completed", "failed", "cancelled", "timed_out")


def lacks_agent(agent: str) -> str:
    """The reason for a task whose agent no worker has: all that read it hand it back, or none is live."""
    return f"no live worker has {agent_label(agent)}"


def queued_for(queued: Mapping[str, Any]) -> str:
    """The concurrency key that a run waits for before it starts, from its view or the event."""
    because = f": {queued['because']}" if queued.get("because") else ""
    return f"the concurrency key {queued.get('key')!r}, at position {queued.get('position')}{because}"


def waits_for_limit(kind: str, name: str, scope: str = "key") -> str:
    """The limit that members wait for.

    Args:
        scope: `key`, or `agent` or `project` for one that is configured.
    """
    if kind == "breaker":
        return f"the breaker of the agent {name!r}"
    if scope != "key":
        what = "the rate" if kind == "rate" else "the places"
        return f"{what} of {name!r}, configured for {'a project' if scope == 'project' else 'agents'}"
    return f"{'the rate' if kind == 'rate' else 'the concurrency key'} {name!r}"


def lacks_room(lacks: str) -> str:
    """The reason for a task that requires more than any worker offers."""
    return f"no live worker offers what the task requires: {lacks}"


def lacks_workers(pool: str, since: float | None) -> str:
    """The reason for a task of a pool that has no worker, since a time in seconds since the epoch."""
    when = "" if since is None else f", since {rfc3339(since)}"
    return f"a worker of the pool {pool!r}, which has none{when}: start one (anabranch taskgroup --pool {pool})"


UNSTARTED = "no TaskGroup service has started it: check that one runs (anabranch taskgroup)"


WITHOUT_WORKERS = "no worker runs: start one (anabranch taskgroup)"


def may_lack_workers(view: RunView) -> bool:
    """True if an open run has a task that only a worker, or the owner beside it, can bring forward."""
    if view.status in (*_ENDED, "scheduled", "queued") or view.has_ended:
        return False
    return any(task.status in ("waiting", "running") and not task.waits for _, _, task in view.tasks())


def waits_for(view: RunView, now: float) -> str | None:
    """The person, the missing worker or the missing agent that an open run waits for; None if it waits for none.

    Args:
        now: seconds since the epoch.
    """
    if view.status in _ENDED or view.has_ended:
        return None
    if view.status == "scheduled":
        return None if view.not_before is None else f"its start at {utc_text(view.not_before)}"
    if view.status == "queued":
        return queued_for(view.queued or {})
    if people := people_in(view):
        return people
    agents = [task.lacks_agent for _, _, task in view.tasks()]
    rooms = [task.lacks_room for _, _, task in view.tasks()]
    submitted = view.submitted_at
    has_begun = view.started_at is not None or any(group.status != "waiting" for group in view.groups.values())
    unstarted = None if has_begun or submitted is None else now - submitted
    pools = [task.lacks_pool for _, _, task in view.tasks() if task.lacks_pool is not None]
    return reason(filter(None, agents), unstarted, filter(None, rooms), pools)


def people_in(view: RunView) -> str | None:
    """The decisions that the tasks of an open run wait for, as text; None if they wait for none."""
    asked = [
        (f"{group}/{name}", wait, sum(stop - start for start, stop in wait["members"]))
        for group, name, task in view.tasks()
        for wait in task.waits
        if wait.get("reason") == "approval"
    ]
    return decisions_wanted(asked)


def decisions_wanted(asked: Sequence[tuple[str, Mapping[str, Any], int]]) -> str | None:
    """The same from single values.

    Args:
        asked: for each approval its task, its wait as in a view, and the number of members that wait for it.
    """
    if not asked:
        return None
    count = sum(members for _, _, members in asked)
    task, wait, _ = asked[0]
    approval = wait.get("approval") or {}
    who = ", ".join(approval.get("assignees") or ()) or "a person"
    subject = f" ({approval['subject']})" if approval.get("subject") else ""
    more = "" if count < 2 else f", and {count - 1} more decisions"
    return f"the decision of {who} about {task}{subject}{more}"


def reason(
    agents: Iterable[str],
    unstarted: float | None,
    rooms: Iterable[str] = (),
    pools: Iterable[Mapping[str, Any]] = (),
) -> str | None:
    """As `waits_for`, from single values: the agents that the run's tasks lack, and the seconds without a started
    group; None if a group has started.

    Args:
        rooms: which worker lacks what of what a task requires, for each task that no worker has room for.
        pools: `{"pool", "since"}` for each task of a pool without workers.
    """
    found = [*map(lacks_agent, sorted(set(agents))), *map(lacks_room, sorted(set(rooms)))]
    if found := [*_lacking_workers(pools), *found]:
        return "; ".join(found)
    return UNSTARTED if unstarted is not None and unstarted >= NOTICE_SECONDS else None


def _lacking_workers(pools: Iterable[Mapping[str, Any]]) -> list[str]:
    earliest: dict[str, float | None] = {}
    for each in pools:
        times = [at for at in (each.get("since"), earliest.get(each["pool"])) if at is not None]
        earliest[each["pool"]] = min(times, default=None)
    return [lacks_workers(pool, since) for pool, since in sorted(earliest.items())]
