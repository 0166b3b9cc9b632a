"""Turns what an agent returned into the values of its member's result keys. Pure."""

from __future__ import annotations

from typing import Any

from anabranch.core.expansion.members import Member
from anabranch.core.json_values import NotJson, encode
from anabranch.core.outputs import reference_count
from anabranch.core.wire.messages import TaskOrder
from anabranch.sdk.outcome import encode_value, items_of, values_of
from anabranch_taskgroup.worker.reports import Completed

ARRAY = ord("[")
"""The first byte of the JSON of an array."""


def completed_of(order: TaskOrder, index: int, member: Member | None, returned: Any) -> Completed:
    """The completed member with its encoded values, one for each result key of its task.

    Args:
        member: None where the task is not expanded.

    Raises:
        ResultError: a required key is missing, or a value has no JSON.
    """
    # Nearly every task has one key. The short way skips two calls, which every member of a fan-out would pay.
    if len(order.result_keys) == 1:
        found = [returned]
        try:
            encoded = [encode(returned)]
        except NotJson:
            encoded = [encode_value(returned, order.result_keys[0])]  # raises ResultError with the key
    else:
        found = values_of(returned, order.result_keys, order.optional_result_keys)
        encoded = list(map(encode_value, found, order.result_keys))
    if member is None:
        return Completed(index, encoded, list(map(reference_count, found)))
    items = [items_of(*each) if each[1][0] == ARRAY else 1 for each in zip(found, encoded, strict=True)]
    return Completed(index, encoded, items, member.identifier)
