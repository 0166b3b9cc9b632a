"""Which tasks of a run a fork takes over: those that do not depend on what is run again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from anabranch.core.names import outcome_name
from anabranch.core.request.forking import TaskId
from anabranch.core.request.models import FINALLY, Request
from anabranch.core.request.planning import plan
from anabranch.core.wire.messages import ControlRun, TaskOrder
from anabranch_agency.run.planning import order_of, shared_keys


@dataclass(frozen=True, slots=True)
class Fork:
    """Submit a fork of an ended run. `offset` is the position of its request in the partition."""

    control: ControlRun
    offset: int
    project: str


def orders_of(request: Mapping[str, Any], session_keys: Sequence[str]) -> dict[TaskId, TaskOrder]:
    """The orders of the tasks of a request.

    Raises:
        RequestRefused: it has a cycle or a dependency that nothing provides.
    """
    planned = plan(Request.model_validate(request), session_keys)
    shared = shared_keys(planned)
    numbers = {
        key: {place: number for number, place in enumerate(found.producers)} for key, found in shared.items()
    }
    return {(task.group, task.name): order_of(task, numbers) for task in planned.tasks}


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """The keys of the context whose values differ between two requests."""
    old, new = before.get("context") or {}, after.get("context") or {}
    return {key for key in {*old, *new} if key not in old or key not in new or old[key] != new[key]}


def taken_over(
    before: Mapping[TaskId, TaskOrder],
    after: Mapping[TaskId, TaskOrder],
    points: Collection[TaskId],
    changed: Set[str],
) -> tuple[TaskId, ...]:
    """The tasks whose outcomes a fork takes over, in the order of the request.

    Left out are the fork points, tasks that are new or defined in another way, those that use a changed value of
    the context, and all that depend on one of these. A loop is taken over with all tasks of its body, which are
    not named, or runs again with all of them. Contributions to a key with a policy are known only together, so
    their tasks run again. So do the tasks of `finally`.
    """
    producers: dict[str, list[TaskId]] = {}
    for place, order in after.items():
        for key in (*order.result_keys, order.error_key, outcome_name(*place)):
            if key is not None:
                producers.setdefault(key, []).append(place)

    # Each task of a body with its loop, and each loop with its body: they are stale together.
    parts: dict[TaskId, list[TaskId]] = {}
    for place, order in after.items():
        if order.in_loop is not None:
            loop = (place[0], order.in_loop)
            parts.setdefault(loop, []).append(place)
            parts.setdefault(place, []).append(loop)

    def is_stale(place: TaskId, taken: set[TaskId]) -> bool:
        order = after[place]
        if place in points or before.get(place) != order or place[0] == FINALLY:
            return True
        if order.shares or any(part not in taken for part in parts.get(place, ())):
            return True
        keys = [need.key for need in order.needs]
        if not changed.isdisjoint([*keys, *order.context_keys]):
            return True
        return any(producer not in taken for key in keys for producer in producers.get(key, ()))

    taken = set(after)
    while stale := {place for place in taken if is_stale(place, taken)}:
        taken -= stale
    return tuple(place for place, order in after.items() if place in taken and order.in_loop is None)
