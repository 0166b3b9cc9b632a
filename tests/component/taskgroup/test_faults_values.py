"""Values that look like something else, or are lost: they may fail a run, but never a service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from small_requests import alive, request, task

from anabranch.testing import System

LOOK_ALIKES: list[Any] = [
    {"$anabranch": 5},
    {"$anabranch": "no address", "count": 1, "bytes": 1},
    {"$anabranch": "s/x"},
    {"$anabranch": "s/x", "mine": True, "count": 1, "bytes": 1},
    {"$anabranch": "s/x", "count": 1, "bytes": 1},
    {"$anabranch": "s/news", "count": 1, "bytes": 1},
    {"$anabranch": "s/news", "count": 3, "bytes": 48, "run_id": ""},
]


@pytest.mark.parametrize("value", LOOK_ALIKES, ids=str)
def test_an_external_value_that_looks_like_a_reference_is_a_value(
    anabranch_system: Callable[..., System], value: Any
) -> None:
    s = anabranch_system()
    s.publish("s", "news", value)

    result = s.run(request(task("t", inputs="{news}", external_dependencies=["news"]), session_id="s"), timeout=60)

    assert (result.status, result.results["t"]) == ("completed", value)
    alive(s)
