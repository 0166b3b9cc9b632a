"""The first values of a loop's state, and the number of items that a loop without a limit goes through."""

from __future__ import annotations

from typing import Any

from anabranch import Task
from anabranch.testing import system


def loop(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "repeat", "loop": {**fields, "steps": [{"name": "one", "agent": "echo", **body}]}}


def test_state_begins_with_values_of_the_context_of_earlier_steps_and_of_the_loop_around() -> None:
    inner = loop(
        {"inputs": ["{state.n}", "{state.text}", "{state.list}", "{state.outer}"]},
        each=[1],
        state={"n": "{first.n}", "text": "from {start}", "list": ["{words}"], "outer": "{item}"},
    )
    request = {
        "context": {"start": 3, "words": ["a", "b"]},
        "steps": [
            {"name": "first", "agent": "echo", "inputs": {"n": 5}},
            {"name": "around", "loop": {"each": ["x", "y"], "collect": "append", "steps": [inner]}},
        ],
    }

    with system() as s:
        result = s.run(request)

    assert result.results["one"] == [[5, "from 3", [["a", "b"]], "x"], [5, "from 3", [["a", "b"]], "y"]]


def test_state_that_names_a_value_in_the_store_fails_the_loop_with_what_to_do() -> None:
    def large(task: Task) -> str:
        return "x" * 200_000

    steps = [{"name": "big", "agent": "large"}, loop({}, each=[1], state={"text": "{big}"})]

    with system(agents={"large": large}) as s:
        result = s.run({"steps": steps})

    [failure] = result.failures
    assert (failure["task"], failure["error_type"]) == ("repeat", "InvalidState")
    assert "names 'big', whose value is too large" in failure["message"]
    assert "have a task of the body read it as a dependency" in failure["message"]


def test_a_loop_over_a_list_has_an_iteration_for_each_item_by_default() -> None:
    with system() as s:
        all_items = s.run({"steps": [loop({"inputs": "{item}"}, each=list(range(150)))]})
        limited = s.run({"steps": [loop({}, each=list(range(150)), max_iterations=100)]})
        counted = s.run({"steps": [loop({}, until="iteration == 150")]})

    assert all_items.results == {"one": 149, "repeat.loop": {"iterations": 150, "ended_by": "items"}}
    assert [each.failures[0]["error_type"] for each in (limited, counted)] == ["LoopExhausted", "LoopExhausted"]
