"""A wait that the run's timeout would end is told with the plan."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.request.admission import read_request


def warnings_of(wait: dict[str, Any], **request: Any) -> list[str]:
    task = {"name": "pause", "wait": wait}
    return list(read_request({"task_groups": [{"name": "g", "tasks": [task]}], **request}).warnings)


@pytest.mark.parametrize(
    ("wait", "warning"),
    [
        ({"for": "3d"}, "the wait of g/pause takes 3d, but the run times out after 1d"),
        ({"for": "1d"}, "the wait of g/pause takes 1d, but the run times out after 1d"),
        ({"signal": "go", "timeout": "2d"}, "the timeout of g/pause takes 2d, but the run times out after 1d"),
    ],
)
def test_a_wait_that_outlasts_the_run_is_a_warning(wait: dict[str, Any], warning: str) -> None:
    assert warnings_of(wait) == [warning + ": give the request a longer `timeout`"]


@pytest.mark.parametrize("wait", [{"for": "23h"}, {"for": "{hours}"}, {"signal": "go"}, {"approval": {}}])
def test_a_wait_within_the_run_is_none(wait: dict[str, Any]) -> None:
    assert warnings_of(wait, context={"hours": 1}) == []


def test_a_longer_timeout_of_the_request_is_the_remedy() -> None:
    assert warnings_of({"for": "3d"}, timeout="4d") == []
