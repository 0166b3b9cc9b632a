"""Values that are not what they look like, or are gone: a run may fail of them, a service never does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anabranch.testing import System
from small_requests import alive, array, request, task

LOOK_ALIKES: list[Any] = [
    {"$anabranch": 5},
    {"$anabranch": "no address", "count": 1, "bytes": 1},
    {"$anabranch": "s/x"},
    {"$anabranch": "s/x", "mine": True, "count": 1, "bytes": 1},
]


@pytest.mark.parametrize("value", LOOK_ALIKES, ids=str)
def test_an_outside_value_that_looks_like_a_reference_is_a_value(
    anabranch_system: Callable[..., System], value: Any
) -> None:
    s = anabranch_system()
    s.publish("s", "news", value)

    result = s.run(request(task("t", inputs="{news}", external_dependencies=["news"]), session_id="s"), timeout=60)

    assert (result.status, result.results["t"]) == ("completed", value)
    alive(s)


@pytest.mark.parametrize("key", ["news", "other"])
@pytest.mark.parametrize("expanded", [False, True])
def test_an_outside_reference_to_itself_or_to_nothing_fails_its_task_alone(
    anabranch_system: Callable[..., System], key: str, expanded: bool
) -> None:
    """An outsider SETs a reference whose public key is itself, or is not there."""
    s = anabranch_system()
    s.publish("s", "news", {"$anabranch": f"s/{key}", "count": 1, "bytes": 1})
    more = {"expansion_config": array("news")} if expanded else {}
    broken = task("t", inputs="{item}" if expanded else "{news}", external_dependencies=["news"], **more)

    result = s.run(request(broken, task("fine", inputs=1), session_id="s"), timeout=600)

    assert (result.status, dict(result.results)) == ("failed", {"fine": 1})
    alive(s)
