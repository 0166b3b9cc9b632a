"""Steps, switches, and conditions, sequences and loops of groups become plain groups of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.request.admission import read_request
from anabranch.core.request.envelope import unwrap
from anabranch.core.request.lowering import is_spelled, lowered
from anabranch.core.request.models import Request, TaskSpec

IS_TRUE = {"field": "go", "operator": "equals", "value": True}
IS_FALSE = {"field": "go", "operator": "equals", "value": False}
Document = dict[str, Any]


def task(name: str, **fields: Any) -> Document:
    return {"name": name, "agent": "echo", **fields}


def lowered_groups(document: Mapping[str, Any]) -> dict[str, dict[str, TaskSpec]]:
    """The groups of the canonical request, which is the same if it is lowered again."""
    read = read_request({"context": {"go": True}, **document})
    assert read.errors == ()
    canonical = read.required().to_document()
    assert lowered(canonical).request == canonical
    assert Request.model_validate(document).to_document()["task_groups"] == canonical["task_groups"]
    groups = read.required().task_groups
    return {group.name: {task.name: task for task in group.tasks} for group in groups}


def fields(spec: TaskSpec) -> Document:
    """The fields of a task that lowering may write, in the canonical form."""
    names = {"after", "follows", "branch", "in_loop", "switch", "loop", "dependencies", "optional_dependencies"}
    return {name: value for name, value in spec.to_document().items() if name in names}


def test_a_plain_request_is_not_touched() -> None:
    document = {"task_groups": [{"name": "g", "tasks": [task("a"), task("b", dependencies=["a"])]}]}

    assert not is_spelled(document)
    assert unwrap(document).request is document


def test_the_condition_of_a_group_is_a_step_that_each_task_is_a_branch_of() -> None:
    found = lowered_groups({"task_groups": [{"name": "g", "when": IS_TRUE, "tasks": [task("a"), task("b")]}]})["g"]

    assert list(found) == ["(when)", "a", "b"]
    assert fields(found["(when)"]) == {
        "switch": {"cases": [IS_TRUE], "on_no_match": "skip", "reason": "condition"},
    }
    assert found["(when)"].result_keys == ()
    assert fields(found["a"]) == fields(found["b"]) == {"branch": {"switch": "g/(when)", "case": 0}}


def test_a_sequence_lets_each_task_follow_the_one_before_it() -> None:
    tasks = [task("a"), task("b"), task("c")]
    found = lowered_groups({"task_groups": [{"name": "g", "sequential": True, "tasks": tasks}]})["g"]

    assert [fields(spec) for spec in found.values()] == [{}, {"follows": ["g/a"]}, {"follows": ["g/b"]}]


def test_a_loop_repeats_the_tasks_of_its_group_and_has_their_keys() -> None:
    loop = {"until": IS_TRUE, "state": {"n": 0}}
    tasks = [task("a", result_keys=["x", "y"]), task("b")]
    found = lowered_groups({"task_groups": [{"name": "g", "loop": loop, "tasks": tasks}]})["g"]

    assert fields(found["(loop)"]) == {"loop": loop}
    assert found["(loop)"].result_keys == ("x", "y", "b", "g.loop")
    assert fields(found["a"]) == fields(found["b"]) == {"in_loop": "(loop)"}


def test_a_loop_that_collects_nothing_has_only_its_own_key() -> None:
    loop = {"until": IS_TRUE, "collect": "none"}
    found = lowered_groups({"task_groups": [{"name": "g", "loop": loop, "tasks": [task("a")]}]})["g"]

    assert found["(loop)"].result_keys == ("g.loop",)


def test_the_condition_of_a_group_is_evaluated_before_its_loop() -> None:
    group = {
        "name": "g",
        "when": IS_TRUE,
        "loop": {"each": [1]},
        "sequential": True,
        "tasks": [task("a"), task("b")],
    }
    found = lowered_groups({"task_groups": [group]})["g"]

    assert fields(found["(loop)"])["branch"] == {"switch": "g/(when)", "case": 0}
    assert fields(found["a"]) == {"in_loop": "(loop)"}
    assert fields(found["b"]) == {"in_loop": "(loop)", "follows": ["g/a"]}


def test_a_switch_over_tasks_is_a_group_with_all_of_them() -> None:
    switch = {
        "cases": [{"when": IS_TRUE, "tasks": [task("a")]}, {"when": IS_FALSE, "tasks": [task("b"), task("c")]}],
        "default": {"tasks": [task("d")]},
    }
    items = [{"switch": switch}, {"name": "switch-2", "tasks": [task("z")]}, {"switch": {**switch, "default": []}}]
    items[2]["switch"] = {"cases": [{"when": IS_TRUE, "tasks": [task("e")]}], "on_no_match": "skip"}
    found = lowered_groups({"task_groups": items})

    assert list(found) == ["switch", "switch-2", "switch-3"]
    assert list(found["switch"]) == ["(switch)", "a", "b", "c", "d"]
    assert fields(found["switch"]["(switch)"]) == {"switch": {"cases": [IS_TRUE, IS_FALSE], "has_default": True}}
    cases = [fields(found["switch"][name])["branch"] for name in "abcd"]
    assert [(each["switch"], each["case"]) for each in cases] == [
        ("switch/(switch)", 0),
        ("switch/(switch)", 1),
        ("switch/(switch)", 1),
        ("switch/(switch)", 2),
    ]
    assert fields(found["switch-3"]["(switch)"]) == {"switch": {"cases": [IS_TRUE], "on_no_match": "skip"}}


def test_a_switch_over_groups_takes_groups_and_names_of_groups() -> None:
    looped = {"name": "looped", "loop": {"each": [1]}, "tasks": [task("x")]}
    cases = [{"when": IS_TRUE, "groups": ["named", looped]}]
    switch = {"name": "choice", "switch": {"cases": cases, "default": ["other"]}}
    items = [
        {"name": "named", "tasks": [task("a")]},
        switch,
        {"name": "other", "when": IS_TRUE, "tasks": [task("b")]},
    ]
    found = lowered_groups({"task_groups": items})

    assert list(found) == ["named", "choice", "looped", "other"]
    assert list(found["choice"]) == ["(switch)"]
    case = {"switch": "choice/(switch)", "case": 0}
    assert fields(found["named"]["a"]) == {"branch": case}
    assert fields(found["looped"]["(loop)"])["branch"] == case
    assert fields(found["looped"]["x"]) == {"in_loop": "(loop)"}
    # Of a group with a condition, only that is a branch of the switch: the tasks are branches of the condition.
    assert fields(found["other"]["(when)"])["branch"] == {"switch": "choice/(switch)", "case": 1}
    assert fields(found["other"]["b"]) == {"branch": {"switch": "other/(when)", "case": 0}}


def test_names_of_tasks_get_their_group() -> None:
    items = [
        {"name": "g", "tasks": [task("a"), task("b", after=["a", "h/c?"])]},
        {"name": "h", "tasks": [task("c")]},
    ]
    found = lowered_groups({"task_groups": items, "finally": [task("x"), task("y", after=["x?"])]})

    assert found["g"]["b"].after == ("g/a", "h/c?")


def test_steps_follow_each_other_and_see_the_keys_of_the_steps_before() -> None:
    steps = [
        task("a"),
        {"parallel": [task("p", inputs="{a} {q}"), {"sequential": [task("q"), task("r", inputs={"x": "{q.y}"})]}]},
        task("z", inputs="{p} {r} {go}", dependencies=["r"]),
    ]
    found = lowered_groups({"steps": steps})["steps"]

    assert {name: fields(spec) for name, spec in found.items()} == {
        "a": {},
        "p": {"follows": ["steps/a"], "dependencies": ["a"], "optional_dependencies": ["a"]},
        "q": {"follows": ["steps/a"]},
        "r": {"follows": ["steps/q"], "dependencies": ["q"], "optional_dependencies": ["q"]},
        "z": {"follows": ["steps/p", "steps/r"], "dependencies": ["r", "p"], "optional_dependencies": ["p"]},
    }


def test_an_if_is_a_switch_with_a_default() -> None:
    steps = [task("a"), {"if": IS_TRUE, "then": [task("b"), task("c")], "else": [task("d")]}, task("e")]
    found = lowered_groups({"steps": steps})["steps"]
    then, other = ({"switch": "steps/(if)", "case": case} for case in (0, 1))

    assert {name: fields(spec) for name, spec in found.items() if name != "a"} == {
        "(if)": {"switch": {"cases": [IS_TRUE], "has_default": True}, "follows": ["steps/a"]},
        "b": {"branch": then},
        "c": {"branch": then, "follows": ["steps/b"]},
        "d": {"branch": other},
        "e": {"follows": ["steps/c", "steps/d"]},
    }


def test_after_an_empty_branch_comes_what_follows_the_choice() -> None:
    found = lowered_groups({"steps": [{"if": IS_TRUE, "then": []}, task("e")]})["steps"]

    assert fields(found["e"]) == {"follows": ["steps/(if)"]}


def test_a_switch_in_steps_has_steps_in_its_cases() -> None:
    inner = {"if": IS_FALSE, "then": [task("b")]}
    cases = [{"when": IS_TRUE, "steps": [task("a"), inner]}, {"when": IS_FALSE, "steps": []}]
    found = lowered_groups({"steps": [{"name": "pick", "switch": {"cases": cases}}, task("z")]})["steps"]

    assert fields(found["pick"]) == {"switch": {"cases": [IS_TRUE, IS_FALSE]}}
    assert fields(found["(if)"])["branch"] == {"switch": "steps/pick", "case": 0}
    assert fields(found["b"]) == {"branch": {"switch": "steps/(if)", "case": 0}}
    assert fields(found["z"]) == {"follows": ["steps/b"]}


def test_loops_in_steps_nest_and_are_known_by_their_names() -> None:
    inner = {"loop": {"each": [1], "steps": [task("b", inputs="{item} {a}")]}}
    outer = {"name": "twice", "loop": {"until": IS_TRUE, "steps": [task("a"), inner]}}
    found = lowered_groups({"steps": [outer, task("z", inputs="{b}")]})["steps"]

    assert list(found) == ["twice", "a", "(loop)", "b", "z"]
    assert found["twice"].result_keys == ("a", "b", "steps.loop", "twice.loop")
    assert found["(loop)"].in_loop == "twice"
    assert found["b"].in_loop == "(loop)"
    assert fields(found["b"]) == {"in_loop": "(loop)", "dependencies": ["a"], "optional_dependencies": ["a"]}
    assert fields(found["z"])["follows"] == ["steps/twice"]


def test_steps_without_a_name_get_one() -> None:
    steps = [
        {"agent": "echo"},
        {"agent": "echo"},
        {"wait": {"for": 1}},
        {"wait": {"for": 2}},
        {"name": "echo-2", "agent": "x"},
    ]
    found = lowered_groups({"steps": steps})["steps"]

    assert list(found) == ["echo", "echo-3", "(wait)", "(wait 2)", "echo-2"]
    assert found["(wait)"].result_keys == ()
    assert found["echo-3"].result_keys == ("echo-3",)


def test_many_parallel_steps_after_many_wait_for_one_step_between() -> None:
    wide = [{"parallel": [task(f"{letter}{number}") for number in range(20)]} for letter in "ab"]
    found = lowered_groups({"steps": wide})["steps"]

    assert len(found["(join)"].follows) == 20
    assert {found[f"b{number}"].follows for number in range(20)} == {("steps/(join)",)}


PATHS: list[tuple[Document, str, str]] = [
    ({"steps": [], "task_groups": []}, "schema", "/steps"),
    ({"steps": []}, "schema", "/steps"),
    ({"steps": 5}, "schema", "/steps"),
    ({"steps": [task("a"), 7]}, "schema", "/steps/1"),
    ({"steps": [{"name": "a"}]}, "schema", "/steps/0"),
    ({"steps": [task("a", timeout="soon")]}, "schema", "/steps/0/timeout"),
    ({"steps": [{"if": IS_TRUE, "then": [task("a", agnt="x")]}]}, "unknown_field", "/steps/0/then/0/agnt"),
    ({"steps": [{"if": IS_TRUE}]}, "schema", "/steps/0"),
    ({"steps": [{"if": IS_TRUE, "then": 5}]}, "schema", "/steps/0/then"),
    ({"steps": [{"if": IS_TRUE, "than": [], "then": []}]}, "unknown_field", "/steps/0/than"),
    ({"steps": [{"if": {"field": "go"}, "then": [task("a")]}]}, "schema", "/steps/0/if"),
    ({"steps": [{"if": IS_TRUE, "agent": "x", "then": []}]}, "schema", "/steps/0"),
    ({"steps": [{"parallel": {}}]}, "schema", "/steps/0/parallel"),
    ({"steps": [{"parallel": [task("a"), task("a")]}]}, "duplicate_name", "/steps/0/parallel/1/name"),
    ({"steps": [{"loop": {"each": [1], "steps": [task("a", retry={"stratgy": "fixed"})]}}]}, "unknown_field",
     "/steps/0/loop/steps/0/retry/stratgy"),
    ({"steps": [{"loop": {"each": [1]}}]}, "schema", "/steps/0/loop"),
    ({"steps": [{"loop": {"steps": [task("a")]}}]}, "schema", "/steps/0/loop"),
    ({"steps": [{"loop": {"each": [1], "max_iterations": 1_000_001, "steps": [task("a")]}}]}, "schema",
     "/steps/0/loop/max_iterations"),
    ({"steps": [{"switch": {"cases": []}}]}, "schema", "/steps/0/switch/cases"),
    ({"steps": [{"switch": {"cases": [{"steps": []}]}}]}, "schema", "/steps/0/switch/cases/0"),
    ({"steps": [{"switch": {"cases": [{"when": {"field": 5}, "steps": []}]}}]}, "schema",
     "/steps/0/switch/cases/0/when"),
    ({"steps": [task("a", after=["b"]), task("c", after=["a"])]}, "unknown_dependency", "/steps/0/after/0"),
    ({"steps": [task("a", after=["c"]), task("c")]}, "cycle", "/steps/0/after/0"),
    ({"task_groups": [{"switch": {"cases": [{"when": IS_TRUE, "tasks": [task("a"), task("b", x=1)]}]}}]},
     "unknown_field", "/task_groups/0/switch/cases/0/tasks/1/x"),
    ({"task_groups": [{"switch": {"cases": [{"when": IS_TRUE, "groups": ["nope"]}]}}]}, "unknown_dependency",
     "/task_groups/0/switch/cases/0/groups/0"),
    ({"task_groups": [{"name": "g", "tasks": [task("a", after=["bb"]), task("b")]}]}, "unknown_dependency",
     "/task_groups/0/tasks/0/after/0"),
    ({"task_groups": [{"name": "g", "when": {"all": []}, "tasks": [task("a")]}]}, "schema",
     "/task_groups/0/when/all"),
    ({"task_groups": [{"name": "g", "loop": {}, "tasks": [task("a")]}]}, "schema", "/task_groups/0/loop"),
    ({"task_groups": [{"name": "g", "when": IS_TRUE, "tasks": [task("a"), task("b", timeout=0)]}]}, "schema",
     "/task_groups/0/tasks/1/timeout"),
    ({"task_groups": [{"name": "g", "loop": {"each": [1]}, "tasks": [task("item")]}]}, "bad_name",
     "/task_groups/0/tasks/0/name"),
    ({"object": {"steps": [{"if": IS_TRUE, "then": [task("a", timeout=0)]}]}}, "schema",
     "/object/steps/0/then/0/timeout"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "code", "path"), PATHS)
def test_a_problem_points_into_the_request_as_sent(document: Document, code: str, path: str) -> None:
    read = read_request({"context": {"go": True}, **document} if "object" not in document else document)

    assert (code, path) in {(str(error.code), error.path) for error in read.errors}, [str(e) for e in read.errors]


def test_steps_that_are_nested_too_deeply_are_refused() -> None:
    step = task("a")
    for _ in range(60):
        step = {"sequential": [step]}

    assert [str(error.code) for error in read_request({"steps": [step]}).errors if "nested" in error.message] == [
        "too_deep"
    ]


# --- any steps imply the order of the plan --------------------------------------------------------


@dataclass
class Expected:
    """What a document of steps implies: pairs of tasks of which the first is at an earlier level."""

    count: int = 0
    pairs: list[tuple[str, str]] = field(default_factory=list)


def _steps(draw: st.DrawFn, expected: Expected, depth: int) -> tuple[list[Document], list[list[str]]]:
    """A list of steps, and the tasks of each of them."""
    found, names = [], []
    for _ in range(draw(st.integers(1, 3))):
        step, inside = _step(draw, expected, depth)
        found.append(step)
        names.append(inside)
    for earlier, later in pairwise(names):
        expected.pairs += [(one, other) for one in earlier for other in later]
    return found, names


def _step(draw: st.DrawFn, expected: Expected, depth: int) -> tuple[Document, list[str]]:
    kind = draw(st.sampled_from(["task", "parallel", "sequential", "if", "switch", "loop"])) if depth else "task"
    if kind == "task":
        expected.count += 1
        name = f"t{expected.count}"
        return task(name), [name]
    if kind == "parallel":
        inner = [_step(draw, expected, depth - 1) for _ in range(draw(st.integers(1, 3)))]
        return {"parallel": [step for step, _ in inner]}, [name for _, names in inner for name in names]
    lists = [_steps(draw, expected, depth - 1) for _ in range(2 if kind in ("if", "switch") else 1)]
    names = [name for _, steps in lists for each in steps for name in each]
    (first, _), (last, _) = lists[0], lists[-1]
    if kind == "if":
        return {"if": IS_TRUE, "then": first, "else": last}, names
    if kind == "switch":
        return {"switch": {"cases": [{"when": IS_TRUE, "steps": first}], "default": last}}, names
    if kind == "loop":
        return {"loop": {"until": IS_TRUE, "steps": first}}, names
    return {"sequential": first}, names


@st.composite
def documents(draw: st.DrawFn) -> tuple[Document, Expected]:
    expected = Expected()
    steps, _ = _steps(draw, expected, 3)
    return {"steps": steps, "context": {"go": True}}, expected


@given(documents())
def test_the_plan_of_any_steps_has_the_order_that_they_imply(drawn: tuple[Document, Expected]) -> None:
    document, expected = drawn
    read = read_request(document)
    assert read.plan is not None, [str(error) for error in read.errors]
    levels = {task.name: task.level for task in read.plan.tasks}

    assert [pair for pair in expected.pairs if levels[pair[0]] >= levels[pair[1]]] == []
    canonical = read.required().to_document()
    assert lowered(canonical).request == canonical
