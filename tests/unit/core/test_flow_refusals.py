"""Control flow that cannot work is refused, with the place and a fix."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.core.request.admission import read_request

Document = dict[str, Any]
LOOP = {"each": [1]}
CASES = {"cases": [True]}


def task(name: str, **fields: Any) -> Document:
    kinds = {"wait", "run", "switch", "loop"}
    return {"name": name, **({} if kinds & set(fields) else {"agent": "echo"}), **fields}


def group(*tasks: Document, **fields: Any) -> Document:
    return {"name": "g", "tasks": list(tasks), **fields}


def problems(*groups: Document, **fields: Any) -> set[tuple[str, str]]:
    read = read_request({"task_groups": list(groups), **fields})
    return {(str(error.code), error.path.removeprefix("/task_groups/0")) for error in read.errors}


REFUSED: list[tuple[Document, str, str]] = [
    (group(task("a", after=["h/a"])), "unknown_dependency", "/tasks/0/after/0"),
    (group(task("a", follows=["b"])), "unknown_dependency", "/tasks/0/follows/0"),
    (group(task("a", after=["a"])), "cycle", "/tasks/0/after/0"),
    (group(task("a", after=["b"]), task("b", when="a == 1")), "cycle", "/tasks/0/after/0"),
    (group(task("a", in_loop="x")), "unknown_dependency", "/tasks/0/in_loop"),
    (group(task("a", in_loop="b"), task("b")), "unknown_dependency", "/tasks/0/in_loop"),
    (group(task("a", in_loop="a", loop=LOOP)), "cycle", "/tasks/0/in_loop"),
    (group(task("a", branch={"switch": "b", "case": 0}), task("b")), "schema", "/tasks/0/branch/switch"),
    (group(task("a", branch={"switch": "b", "case": 2}), task("b", switch=CASES)), "schema",
     "/tasks/0/branch/switch"),
    (group(task("a", branch={"switch": "b", "case": -1}), task("b", switch=CASES)), "schema",
     "/tasks/0/branch/case"),
    # A task outside of a loop follows one inside of it.
    (group(task("l", loop=LOOP), task("b", in_loop="l"), task("c", follows=["b"])), "unknown_dependency",
     "/tasks/2/follows/0"),
    # A loop waits for a task of its own body.
    (group(task("l", loop=LOOP, after=["b"]), task("b", in_loop="l")), "unknown_dependency", "/tasks/0/after/0"),
    # The loop waits for its body, which waits for a task that waits for the loop.
    (group(task("l", loop=LOOP, result_keys=["b"]), task("b", in_loop="l", dependencies=["c"]),
           task("c", dependencies=["b"])), "cycle", "/tasks/1/dependencies/0"),
    (group(task("l", loop=LOOP), task("b", in_loop="l", result_keys=["state"])), "bad_name",
     "/tasks/1/result_keys/0"),
    (group(task("l", loop={"each": [1], "until": "a == 1", "while": "a == 1"})), "schema", "/tasks/0/loop"),
    (group(task("l", loop={"max_iterations": 3})), "schema", "/tasks/0/loop"),
    (group(task("w", wait={"for": 1, "signal": "s"})), "schema", "/tasks/0/wait"),
    (group(task("w", wait={"signal": "s", "on_timeout": "skip"})), "schema", "/tasks/0/wait"),
    (group(task("r", run={"definition": "a", "request": {}})), "schema", "/tasks/0/run"),
    (group(task("a", agent="echo", wait={"for": 1})), "schema", "/tasks/0"),
    (group(task("a"), task("b"), need=3), "schema", ""),
    (group(task("a"), task("b"), need=3, race=True), "schema", ""),
    (group(task("a", when="a >")), "schema", "/tasks/0/when"),
    (group(task("a", retry=[])), "schema", "/tasks/0/retry"),
    (group(task("a{", wait={"for": 1})), "schema", "/tasks/0"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "code", "path"), REFUSED)
def test_control_flow_that_cannot_work_is_refused(document: Document, code: str, path: str) -> None:
    assert (code, path) in problems(document)


def test_an_error_key_has_no_policy() -> None:
    found = problems(group(task("a", error_key="err")), context_policies={"err": "append"})

    assert found == {("schema", "/tasks/0/error_key")}


def test_no_task_waits_for_the_tasks_in_finally() -> None:
    found = problems(
        group(task("a", dependencies=["z"]), task("b", after=["finally/z"])), **{"finally": [task("z")]}
    )

    assert found == {("cycle", "/tasks/0/dependencies/0"), ("cycle", "/tasks/1/after/0")}


def test_a_group_has_no_name_of_the_tasks_in_finally() -> None:
    found = problems({**group(task("a")), "name": "finally"}, **{"finally": [task("z")]})

    assert [code for code, _ in found] == ["duplicate_name"]


def test_the_nearest_task_is_suggested() -> None:
    read = read_request({"task_groups": [group(task("build"), task("deploy", after=["biuld"]))]})

    assert [(error.message, error.hint) for error in read.errors] == [
        ("g/deploy names the task g/biuld, which does not exist", "did you mean 'build'?")
    ]


def test_the_agent_of_a_compensation_has_to_exist() -> None:
    tasks = [task("a", compensate={"agent": "undo"})]
    read = read_request({"task_groups": [group(*tasks)]}, agents={"echo"})

    assert [error.path for error in read.errors] == ["/task_groups/0/tasks/0/compensate/agent"]


def test_a_long_cycle_through_a_loop_names_each_task_once() -> None:
    tasks = [
        task("l", loop=LOOP, result_keys=["b"]),
        task("b", in_loop="l", dependencies=["c"]),
        task("c", dependencies=["b"]),
    ]
    [error] = read_request({"task_groups": [group(*tasks)]}).errors

    assert error.message == "these tasks wait for each other: b -> c -> l -> b"


@pytest.mark.parametrize(
    ("step", "path", "said"),
    [
        ({"name": "a", "wait": "5m"}, "/steps/0/wait", "`wait`: must be an object (such as {for: 5m})"),
        (
            {"name": "a", "agent": "echo", "after": "b"},
            "/steps/0/after",
            "must be a list (write it as a list: [b])",
        ),
        ({"name": "a"}, "/steps/0", "`agent` is missing (add `agent`, or `wait` or `run` in its place)"),
        (
            {"name": "a", "agent": "echo", "wait": {"for": "1s"}},
            "/steps/0",
            "the step: has both `agent` and `wait`: a task is of one kind (keep one of them)",
        ),
        (
            {"loop": {"each": 5, "steps": [{"agent": "echo"}]}},
            "/steps/0/loop/each",
            "`each`: must be a list, or a path to one",
        ),
        (
            {"loop": {"each": [1], "max_iterations": 2_000_000, "steps": [{"agent": "echo"}]}},
            "/steps/0/loop/max_iterations",
            "`max_iterations`: must be at most 1,000,000",
        ),
        (
            {"name": "a", "wait": {"signal": "s", "timeout": 1, "on_timeout": "vlaue"}},
            "/steps/0/wait/on_timeout",
            "`on_timeout`: 'vlaue' is none of its values (one of 'fail', 'skip' or 'value')",
        ),
        (
            {"name": "one", "loop": {"name": "two", "each": [1], "steps": [{"agent": "echo"}]}},
            "/steps/0/loop/name",
            "the loop has two names, 'one' and 'two' (keep one of them)",
        ),
    ],
)
def test_a_refusal_says_where_it_is_and_what_to_write(step: dict[str, Any], path: str, said: str) -> None:
    [problem] = read_request({"steps": [step]}).errors

    assert problem.path == path
    assert str(problem).endswith(said)


def test_a_loop_in_steps_may_have_its_name_inside() -> None:
    inside = read_request({"steps": [{"loop": {"name": "L", "each": [1], "steps": [{"agent": "echo"}]}}]})
    beside = read_request({"steps": [{"name": "L", "loop": {"each": [1], "steps": [{"agent": "echo"}]}}]})

    assert inside.errors == ()
    assert inside.request == beside.request
