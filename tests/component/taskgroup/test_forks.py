"""Forks: an ended run again from one of its tasks, with what does not depend on the change taken over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from owner_changes import Installation
from small_requests import array, request, task

from anabranch import Task
from anabranch.core.errors import RequestRefused
from anabranch.core.names import Names
from anabranch.ports import Outgoing
from anabranch.testing import System, system

Start = Callable[..., System]


class Recorder:
    """An agent that returns its inputs, and remembers for which tasks it ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.failing: set[str] = set()

    def agents(self) -> dict[str, Any]:
        async def record(task: Task) -> Any:
            self.ran.append(task.name)
            if task.name in self.failing:
                raise ValueError("failing")
            return task.inputs

        return {"record": record}

    def taken(self) -> list[str]:
        found, self.ran = sorted(set(self.ran)), []
        return found


def chain(**context: Any) -> dict[str, Any]:
    """a -> b -> c, beside x, which uses the context."""
    return request(
        task("a", "record", inputs=1),
        task("b", "record", inputs="{a}", dependencies=["a"]),
        task("c", "record", inputs=["{b}"], dependencies=["b"]),
        task("x", "record", inputs="{word}", dependencies=["word"]),
        context={"word": "old", **context},
    )


def fork(s: System, run: Any, **how: Any) -> Any:
    forked = s.wait(s.embedded.client.fork(run.run_id, **how))
    return s.wait(forked.result())


def test_a_fork_runs_a_task_again_and_what_depends_on_it(anabranch_system: Start) -> None:
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents())
    run = s.submit(chain())
    first = run.result()
    recorder.taken()

    result = fork(s, run, tasks=["b"])

    assert recorder.taken() == ["b", "c"]
    assert (result.status, result.results) == ("completed", first.results)
    assert result.run_id != run.run_id
    assert result.to_document()["forked_from"] == run.run_id
    assert result.executions == {"total": 4, "completed": 4, "failed": 0, "skipped": 0}


def test_a_changed_value_runs_what_depends_on_it_again(anabranch_system: Start) -> None:
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents())
    run = s.submit(chain())
    run.result()
    recorder.taken()

    result = fork(s, run, values={"word": "new"})

    assert recorder.taken() == ["x"]
    assert result.results == {"a": 1, "b": 1, "c": [1], "x": "new"}


def test_another_request_keeps_tasks_of_the_same_definition(anabranch_system: Start) -> None:
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents())
    run = s.submit(chain())
    run.result()
    recorder.taken()
    changed = chain()
    changed["task_groups"][0]["tasks"][1]["inputs"] = "{a} again"
    changed["task_groups"][0]["tasks"].append(task("new", "record", inputs=7))

    result = fork(s, run, request=changed)

    assert recorder.taken() == ["b", "c", "new"]
    assert result.results == {"a": 1, "b": "1 again", "c": ["1 again"], "x": "old", "new": 7}


def test_expansions_and_large_values_are_taken_over(anabranch_system: Start) -> None:
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents())
    big = ["x" * 30_000 for _ in range(5)]
    run = s.submit(
        request(
            task("fan", "record", inputs="{item}", dependencies=["big"], expansion_config=array("big")),
            task("after", "record", inputs="{fan}", dependencies=["fan"]),
            context={"big": big},
        )
    )
    run.result()
    recorder.taken()

    result = fork(s, run, tasks=["g/after"])

    assert recorder.taken() == ["after"]
    assert result.results == {"fan": big, "after": big}


def test_a_fork_of_a_failed_run_takes_over_members_that_completed(anabranch_system: Start) -> None:
    recorder = Recorder()
    recorder.failing = {"b"}
    s = anabranch_system(agents=recorder.agents())
    run = s.submit(chain())
    assert run.result().status == "failed"
    recorder.failing = set()
    recorder.taken()

    result = fork(s, run, tasks=["b"])

    assert recorder.taken() == ["b", "c"]
    assert result.results == {"a": 1, "b": 1, "c": [1], "x": "old"}


def test_a_sub_run_is_taken_over_as_a_whole(anabranch_system: Start) -> None:
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents())
    inner = {"task_groups": [{"name": "i", "tasks": [task("deep", "record", inputs=1)]}]}
    child = {"name": "child", "run": {"request": inner}}
    run = s.submit(request(child, task("b", "record", inputs="{child.deep}", dependencies=["child"])))
    run.result()
    recorder.taken()

    result = fork(s, run, tasks=["b"])

    assert recorder.taken() == ["b"]
    assert result.results == {"child": {"deep": 1}, "b": 1}


def test_the_same_fork_twice_is_one_run(anabranch_system: Start) -> None:
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents())
    run = s.submit(chain())
    run.result()
    record = {"type": "fork", "run_id": run.run_id, "from": "c", "new_request_id": "fork-1"}
    sent = Outgoing(Names().requests, None, json.dumps(record).encode())
    recorder.taken()

    s.wait(s.embedded.client.log.publish([sent, sent]))
    forked = s.wait(s.embedded.client.run("fork-1"))

    assert s.wait(forked.result()).results["c"] == [1]
    s.advance(10)
    assert recorder.ran == ["c"]


def test_a_fork_that_cannot_be_started_is_refused(anabranch_system: Start) -> None:
    s = anabranch_system(agents=Recorder().agents())
    run = s.submit(request(task("a", "record", inputs=1)))

    with pytest.raises(RequestRefused, match="still open"):
        fork(s, run, tasks=["a"])
    run.result()
    with pytest.raises(RequestRefused, match="what is run again"):
        fork(s, run)
    with pytest.raises(RequestRefused, match="there is no run"):
        s.wait(s.embedded.client.fork("nothing", tasks=["a"]))
    result = fork(s, run, tasks=["b"])
    assert (result.status, result.errors[0]["path"]) == ("rejected", "/from")


@pytest.mark.parametrize("killed", ["agency", "taskgroup"])
def test_what_ended_stays_ended_when_an_owner_dies_during_a_fork(killed: str) -> None:
    recorder = Recorder()
    with system(agents=recorder.agents()) as s:
        services = Installation(s, recorder.agents())
        run = s.submit(chain())
        run.result()
        recorder.taken()
        forked = s.wait(s.embedded.client.fork(run.run_id, tasks=["c"]))
        services.end(killed, killed=True)
        s.advance(1)
        services.start(killed)

        assert s.wait(forked.result()).results == {"a": 1, "b": 1, "c": [1], "x": "old"}
        assert recorder.taken() == ["c"]


def test_finally_runs_again_in_a_fork(anabranch_system: Start) -> None:
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents())
    run = s.submit({**chain(), "finally": [task("tidy", "record", inputs=0)]})
    run.result()
    recorder.taken()

    assert fork(s, run, tasks=["c"]).status == "completed"
    assert recorder.taken() == ["c", "tidy"]


def test_branches_and_conditions_end_as_before_in_a_fork(anabranch_system: Start) -> None:
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents())
    run = s.submit(
        request(
            task("a", "record", inputs=1),
            task("yes", "record", inputs="y", when="a == 1"),
            task("no", "record", inputs="n", when="a == 2"),
            task("c", "record", inputs="c", after=["yes"]),
        )
    )
    first = run.result()
    recorder.taken()

    result = fork(s, run, tasks=["c"])

    assert recorder.taken() == ["c"]
    assert result.results == first.results == {"a": 1, "yes": "y", "c": "c"}


def looping(**more: Any) -> dict[str, Any]:
    """A loop of three iterations with a task after each of two, a task before it and one after it."""
    body = [
        task("step", "record", inputs=["{before}", "{item}"], dependencies=["before"]),
        task("free", "record", inputs=0),
    ]
    group = {"name": "l", "loop": {"each": [1, 2, 3], "collect": "append", **more}, "tasks": body}
    before = {
        "name": "first",
        "tasks": [task("before", "record", inputs="b"), task("other", "record", inputs="o")],
    }
    after = task("after", "record", inputs="{step}", dependencies=["step"])
    last = task("last", "record", inputs="{other}", dependencies=["other"])
    return {"task_groups": [before, group, {"name": "end", "tasks": [after, last]}]}


@pytest.mark.parametrize("size", [1, 60_000])
@pytest.mark.parametrize(
    ("point", "again"),
    [
        ("after", ["after"]),
        ("other", ["last", "other"]),
        ("step", ["after", "free", "step"]),
        ("before", ["after", "before", "free", "step"]),
    ],
)
def test_a_loop_is_taken_over_as_a_whole_or_runs_again(
    anabranch_system: Start, point: str, again: list[str], size: int
) -> None:
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents(), inline_limit=10_000)
    document = looping()
    document["task_groups"][0]["tasks"][0]["inputs"] = "b" * size
    run = s.submit(document)
    first = run.result()
    assert first.status == "completed"
    recorder.taken()

    result = fork(s, run, tasks=[point])

    assert recorder.taken() == again
    assert (result.status, result.results) == ("completed", first.results)
    assert result.skipped == ()
    assert result.results["step"] == [["b" * size, n] for n in (1, 2, 3)]


def test_a_fork_of_a_failed_run_takes_over_its_loop(anabranch_system: Start) -> None:
    recorder = Recorder()
    recorder.failing.add("after")
    s = anabranch_system(agents=recorder.agents())
    run = s.submit(looping(collect="last"))
    assert run.result().status == "failed"
    recorder.failing.clear()
    recorder.taken()

    result = fork(s, run, tasks=["after"])

    assert recorder.taken() == ["after"]
    assert (result.status, result.results["after"]) == ("completed", ["b", 3])


def test_a_retry_of_a_fork_runs_a_loop_again_that_the_fork_took_over(anabranch_system: Start) -> None:
    """A fork knows the values of such a loop, and neither its iterations nor what they collected."""
    recorder = Recorder()
    s = anabranch_system(agents=recorder.agents())
    run = s.submit(looping())
    first = run.result()
    recorder.failing.add("after")
    failed = fork(s, run, tasks=["after"])
    assert failed.status == "failed"
    recorder.failing.clear()
    recorder.taken()

    again = s.wait(s.wait(s.embedded.client.retry(failed.run_id)).result())

    assert (again.status, again.results) == ("completed", first.results)
