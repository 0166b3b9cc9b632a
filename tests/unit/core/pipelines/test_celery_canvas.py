"""Canvases of Celery become tasks that hand their results on as in Celery."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.pipelines.conversion import Conversion
from anabranch.core.pipelines.converter import PipelineConverter


def _sig(task: str, *args: Any, immutable: bool = False, **fields: Any) -> dict[str, Any]:
    given = {"task": task, "args": list(args), "kwargs": {}, "options": {}, "subtask_type": None}
    return {**given, "immutable": immutable, **fields}


def _chain(*tasks: Any) -> dict[str, Any]:
    return _sig("celery.chain", kwargs={"tasks": list(tasks)}, subtask_type="chain")


def _group(*tasks: Any) -> dict[str, Any]:
    return _sig("celery.group", kwargs={"tasks": list(tasks)}, subtask_type="group")


def _chord(header: Any, body: Any) -> dict[str, Any]:
    return _sig("celery.chord", kwargs={"header": header, "body": body}, subtask_type="chord")


def _convert(canvas: Any) -> Conversion:
    return PipelineConverter().convert(canvas, "celery")


def _tasks(canvas: Any) -> dict[str, dict[str, Any]]:
    [group] = _convert(canvas).required()["task_groups"]
    return {task["name"]: task for task in group["tasks"]}


def test_a_signature_is_a_task_with_the_agent_of_its_name() -> None:
    tasks = _tasks(_sig("shop.tasks.add", 2, "{x}", kwargs={"deep": {"a": "{{y}}"}}))

    assert tasks["add"]["agent"] == "shop.tasks.add"
    assert tasks["add"]["inputs"] == {"args": [2, "{{x}}"], "kwargs": {"deep": {"a": "{{{y}}}"}}}


def test_a_chain_hands_its_results_on() -> None:
    tasks = _tasks(_chain(_sig("add", 2, 2), _sig("add", 4), _sig("say", immutable=True)))

    assert tasks["add-2"]["inputs"]["args"] == ["{add}", 4]
    assert tasks["add-2"]["dependencies"] == ["add"]
    assert tasks["say"]["inputs"]["args"] == []
    assert tasks["say"]["after"] == ["add-2"]
    assert "dependencies" not in tasks["say"]


def test_a_list_is_a_chain() -> None:
    assert _tasks([_sig("a"), _sig("b")]) == _tasks(_chain(_sig("a"), _sig("b")))


def test_a_chord_gives_its_body_a_list() -> None:
    tasks = _tasks(_chord([_sig("add", 1, 1), _sig("add", 2, 2)], _sig("total", 5)))

    assert tasks["total"]["inputs"]["args"] == [["{add}", "{add-2}"], 5]
    assert tasks["total"]["dependencies"] == ["add", "add-2"]


def test_a_group_within_a_chain_is_a_chord() -> None:
    tasks = _tasks(_chain(_sig("begin"), _group(_sig("left"), _chain(_sig("right"), _sig("more"))), _sig("end")))

    assert tasks["left"]["inputs"]["args"] == ["{begin}"]
    assert tasks["right"]["inputs"]["args"] == ["{begin}"]
    assert tasks["end"]["inputs"]["args"] == [["{left}", "{more}"]]
    assert tasks["end"]["dependencies"] == ["left", "more"]


def test_members_of_groups_in_groups_are_members_of_the_outer_one() -> None:
    deep = _group(_group(_sig("a"), _group(_sig("b"))), _sig("c"))
    tasks = _tasks(_chain(deep, _sig("end")))

    assert tasks["end"]["inputs"]["args"] == [["{a}", "{b}", "{c}"]]


def test_a_chain_that_ends_with_a_group_is_one_member() -> None:
    tasks = _tasks(_chord([_chain(_sig("a"), _group(_sig("b"), _sig("c"))), _sig("d")], _sig("end")))

    assert tasks["end"]["inputs"]["args"] == [[["{b}", "{c}"], "{d}"]]


def test_chunks_are_a_group_of_lists() -> None:
    spread = {"task": _sig("add"), "it": [[1, 2], [3, 4], [5, 6]], "n": 2}
    tasks = _tasks(_chain(_sig("celery.chunks", kwargs=spread, subtask_type="chunks"), _sig("total")))

    assert tasks["add"]["expansion_config"]["array_mapping"] == {"item": [[1, 2], [3, 4]]}
    assert tasks["add-2"]["expansion_config"]["array_mapping"] == {"item": [[5, 6]]}
    assert tasks["total"]["inputs"]["args"] == [["{add}", "{add-2}"]]


def test_map_and_starmap_are_expansions() -> None:
    spread = {"task": _sig("add"), "it": [[1, 2], [3, 4]]}
    tasks = _tasks(_chain(_sig("celery.starmap", kwargs=spread, subtask_type="starmap"), _sig("total")))

    assert tasks["add"]["inputs"]["args"] == "{item}"
    assert tasks["add"]["expansion_config"]["array_mapping"] == {"item": [[1, 2], [3, 4]]}
    assert tasks["total"]["inputs"]["args"] == ["{add}"]


def test_options_are_fields_of_the_task() -> None:
    options = {"queue": "gpu", "time_limit": 60, "soft_time_limit": 50, "task_id": "x", "retry": True}
    found = _convert(_sig("add", options=options))

    [task] = found.required()["task_groups"][0]["tasks"]
    assert (task["pool"], task["timeout"]) == ("gpu", 60)
    assert [each.path for each in found.warnings] == ["/options/retry"]


def test_a_countdown_is_a_task_that_waits() -> None:
    tasks = _tasks(_chain(_sig("a"), _sig("b", options={"countdown": 10})))

    [wait] = [each for each in tasks.values() if "wait" in each]
    assert wait["wait"] == {"for": 10}
    assert wait["after"] == ["a"]
    assert tasks["b"]["dependencies"] == ["a"]
    assert tasks["b"]["after"] == [wait["name"]]


def test_a_link_follows_its_task() -> None:
    tasks = _tasks(_sig("a", options={"link": [_sig("tell", "done")]}))

    assert tasks["tell"]["inputs"]["args"] == ["{a}", "done"]


@pytest.mark.parametrize(
    ("canvas", "path"),
    [
        ({"args": []}, ""),
        (_sig("a", options={"expires": 5}), "/options/expires"),
        (_sig("a", options={"link_error": [_sig("b")]}), "/options/link_error"),
        (_sig("a", options={"countdown": "soon"}), "/options/countdown"),
        (_sig("a", args="text"), "/args"),
        (_sig("a/b"), "/task"),
        (_sig("a", unknown=1), "/unknown"),
        (_group(), "/kwargs/tasks"),
        (_chain(_sig("a"), 5), "/kwargs/tasks/1"),
        (_chord([_sig("a")], None), "/kwargs/body"),
        (_sig("celery.group", 5, kwargs={"tasks": [_sig("a")]}, subtask_type="group"), "/args"),
        (_sig("celery.map", kwargs={"task": _sig("a")}, subtask_type="map"), "/kwargs"),
        (_sig("celery.map", kwargs={"task": _sig("a"), "it": [], "n": 1}, subtask_type="map"), "/kwargs/n"),
        (_sig("celery.starmap", kwargs={"task": _sig("a"), "it": [1]}, subtask_type="starmap"), "/kwargs/it"),
        (_sig("celery.chunks", kwargs={"task": _sig("a"), "it": [[1]], "n": 0}), "/kwargs/n"),
        (
            _sig("celery.map", kwargs={"task": _sig("a", options={"countdown": 1}), "it": [1]}),
            "/kwargs/task/options/countdown",
        ),
        ([], ""),
    ],
)
def test_what_cannot_be_converted_is_an_error_at_its_path(canvas: Any, path: str) -> None:
    found = _convert(canvas)

    assert found.request is None
    assert path in [each.path for each in found.errors]
