"""Limits a report to the members that win where a group needs a number of completed members. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from anabranch.core.json_documents import dumps
from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import MembersReported
from anabranch_taskgroup.session.early_decisions import is_member_race
from anabranch_taskgroup.session.state import Group
from anabranch_taskgroup.session.task_state import Task


def first_winners(
    group: Group, task: Task, report: MembersReported, segments: tuple[bytes, ...]
) -> tuple[MembersReported, tuple[bytes, ...]]:
    """The report with so many of its completed members as the group still needs: those with the lowest indexes."""
    reported = Ranges(report.completed)
    if group.need is None or not is_member_race(group, task.order.in_loop):
        return report, segments
    left = group.need - len(task.completed)
    if left <= 0 or len(reported) <= left:
        return report, segments
    winners = Ranges((index, index + 1) for index in list(reported.indexes())[:left])
    # Values and identifiers are in ascending order of index.
    kept = [orjson.loads(segment)[:left] for segment in segments]
    keys = task.order.result_keys
    large = tuple(each for each in report.large if each.index in winners)
    update = {
        "completed": tuple(winners),
        "large": large,
        "items": tuple(_items(key, values, large) for key, values in zip(keys, kept, strict=False)),
    }
    return report.model_copy(update=update), tuple(map(dumps, kept))


def _items(key: str, values: list[Any], large: tuple[Any, ...]) -> int:
    """The number of items after concatenation: a value that is not a list counts 1, a large one has its own."""
    own = [each for each in large if each.key == key]
    counted = sum(len(value) if isinstance(value, list) else 1 for value in values) - len(own)
    return counted + sum(sum(each.items) if each.items is not None else 1 for each in own)
