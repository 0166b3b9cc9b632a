"""The groups and tasks that are no objects, of which an answer lists only the first."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from anabranch.core.request.excess import without_excess


def group(*tasks: Any) -> dict[str, Any]:
    return {"name": "g", "tasks": list(tasks)}


@pytest.mark.parametrize(
    "groups", [None, 7, [], [group({}, {})], [group(1, {}), 2], [MappingProxyType(group(1))], [{"tasks": 3}] * 9]
)
def test_a_request_with_few_of_them_is_the_same_object(groups: Any) -> None:
    request = {"task_groups": groups, "timeout": "1h"}

    assert without_excess(request, 3) is request


@pytest.mark.parametrize(
    ("groups", "left"),
    [
        ([1, 2, 3, 4, 5], [1, 2, 3]),
        ([group({}), 1, 2, 3, group({})], [group({}), 1, 2, 3]),
        ([group(1, {}, 2, 3, 4), group({})], [group(1, {}, 2, 3)]),
        ([1, group(2), group(3, {}), group({})], [1, group(2), group(3)]),
    ],
)
def test_what_follows_the_last_one_listed_is_left_out(groups: list[Any], left: list[Any]) -> None:
    assert without_excess({"task_groups": groups, "timeout": "1h"}, 3) == {"task_groups": left, "timeout": "1h"}
