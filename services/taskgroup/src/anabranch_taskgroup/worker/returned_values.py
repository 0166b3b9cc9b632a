"""From what an agent returned to the values of its member's result keys. Pure."""

from __future__ import annotations

from typing import Any

from anabranch.core.expansion.members import Member
from anabranch.core.json_values import NotJson, encode
from anabranch.core.outputs import reference_count
from anabranch.core.wire.messages import TaskOrder
from anabranch.sdk.outcome import encode_value, items_of, values_of
from anabranch_taskgroup.worker.reports import Completed

ARRAY = ord("[")
"""How the JSON of an array begins."""


def judge(order: TaskOrder, index: int, member: Member | None, returned: Any) -> Completed:
    """What a member gives to the result keys of its task.

    Raises:
        ResultError: a required key is missing, or something has no JSON.
    """
    if len(order.result_keys) == 1:  # as nearly always, and each call costs every member
        found = [returned]
        try:
            encoded = [encode(returned)]
        except NotJson:
            encoded = [encode_value(returned, order.result_keys[0])]  # raises, with the key
    else:
        found = values_of(returned, order.result_keys, order.optional_result_keys)
        encoded = list(map(encode_value, found, order.result_keys))
    if member is None:
        return Completed(index, encoded, list(map(reference_count, found)))
    items = [items_of(*each) if each[1][0] == ARRAY else 1 for each in zip(found, encoded, strict=True)]
    return Completed(index, encoded, items, member.identifier)
