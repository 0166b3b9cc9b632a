"""`operations.why` names each reason for which a task with control flow has not ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from small_requests import request, task

from anabranch import Task
from anabranch.core.names import child_request_id, run_id_for
from anabranch.core.reasons import MEANINGS, Fact, Missing
from anabranch.operations.why.examination import examine
from anabranch.operations.why.observations import Sources
from anabranch.runtime.process.settings import Settings
from anabranch.testing import System

Start = Callable[..., System]
HOUR = 3_600.0


async def long(task: Task) -> int:
    await asyncio.sleep(HOUR)
    return 1


def why(s: System, run: str = "q") -> dict[str, Missing]:
    """The missing facts of an open run, by task; each task has one here."""
    parts = s.embedded
    sources, run_id = Sources(parts.log, parts.store, parts.names), s.wait(parts.client.run_id_of(run))
    answer = s.wait(examine(sources, Settings(), run, run_id, parts.client.links.clock.now()))
    assert answer.is_open
    found = {each.task or f"({each.group})": each for each in answer.missing}
    assert len(found) == len(answer.missing), answer.missing
    return found


def submitted(start: Start, *tasks: dict[str, Any], seconds: float = 10, **fields: Any) -> System:
    """A system with the agent `long`, and the run "q" of these tasks after some seconds."""
    s = start(agents={"long": long})
    s.submit({**request(*tasks, request_id="q"), **fields})
    s.advance(seconds)
    return s


def wait(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "wait": fields}


def test_each_kind_of_wait_has_a_reason_of_its_own(anabranch_system: Start) -> None:
    s = submitted(
        anabranch_system,
        task("source", "long"),
        wait("time", **{"for": "1h"}),
        wait("condition", condition="source == 2", timeout="30m"),
        wait("signal", signal="paid"),
        wait("approval", approval={"subject": "Release?", "assignees": ["ann"]}),
        context={},
    )
    now = s.embedded.client.links.clock.now()

    found = why(s)

    assert {name: str(each.fact) for name, each in found.items() if name != "source"} == {
        "time": "waits_for_time",
        "condition": "waits_for_condition",
        "signal": "waits_for_signal",
        "approval": "waits_for_decision",
    }
    time, condition = found["time"].until, found["condition"].until
    assert time is not None
    assert condition is not None
    assert HOUR - 20 < time - now < HOUR
    assert HOUR / 2 - 20 < condition - now < HOUR / 2
    assert "paid" in f"{found['signal'].detail} {found['signal'].key}"


def test_a_task_names_the_end_the_field_or_the_group_that_it_waits_for(anabranch_system: Start) -> None:
    s = submitted(
        anabranch_system,
        task("source", "long"),
        task("after", after=["source"]),
        task("field", when="source == 1"),
        **{"finally": [task("clean")]},
    )

    found = why(s)

    assert {name: (str(each.fact), each.key) for name, each in found.items()} == {
        "source": ("claimed", None),
        "after": ("waits_for_task", "{g/source}"),
        "field": ("waits_for_field", "source"),
        "clean": ("waits_for_groups", None),
    }
    assert found["after"].detail == "the end of g/source"


def test_a_branch_waits_for_its_switch_and_the_switch_for_its_fields(anabranch_system: Start) -> None:
    switch = {"cases": [{"when": "source == 1", "tasks": [task("one")]}], "default": {"tasks": [task("other")]}}
    s = anabranch_system(agents={"long": long})
    groups = [{"name": "g", "tasks": [task("source", "long")]}, {"name": "route", "switch": switch}]
    s.submit({"request_id": "q", "task_groups": groups})
    s.advance(10)

    found = why(s)

    assert {name: (str(each.fact), each.key) for name, each in found.items() if name != "source"} == {
        "(switch)": ("waits_for_field", "source"),
        "one": ("waits_for_task", "{route/(switch)}"),
        "other": ("waits_for_task", "{route/(switch)}"),
    }


def test_a_loop_names_its_iteration_and_what_it_waits_for(anabranch_system: Start) -> None:
    body = {
        "name": "writing",
        "loop": {"while": "iteration < 5", "max_iterations": 9},
        "tasks": [task("draft", "long")],
    }
    s = anabranch_system(agents={"long": long})
    s.submit({"request_id": "q", "task_groups": [body]})
    s.advance(HOUR + 10)

    found = why(s)

    assert {name: str(each.fact) for name, each in found.items()} == {"(loop)": "in_iteration", "draft": "claimed"}
    assert found["(loop)"].detail == "iteration 1 of at most 9 of writing/(loop) is running"


def test_a_loop_between_two_iterations_waits_for_the_next(anabranch_system: Start) -> None:
    loop = {"while": "iteration < 5", "delay": "30m"}
    s = anabranch_system()
    run = s.submit({"request_id": "q", "task_groups": [{"name": "w", "loop": loop, "tasks": [task("draft")]}]})
    s.advance(10)
    now = s.embedded.client.links.clock.now()

    resting = why(s)["(loop)"]
    run.pause()
    s.advance(1)
    paused = why(s)["(loop)"]

    assert (resting.fact, paused.fact) == (Fact.WAITS_FOR_ITERATION, Fact.PAUSED)
    assert resting.until is not None
    assert 0 < resting.until - now < HOUR / 2
    assert paused.detail == "iteration 1 of at most 100 of w/(loop) starts once the run is resumed"


def test_a_sub_run_is_named_with_its_id(anabranch_system: Start) -> None:
    child = {"task_groups": [{"name": "g", "tasks": [task("slow", "long")]}]}
    s = submitted(anabranch_system, {"name": "greet", "run": {"request": child}})

    found = why(s)["greet"]

    child_id = run_id_for(child_request_id(run_id_for("q"), "g", "greet", 0))
    assert (found.fact, found.detail) == (Fact.WAITS_FOR_RUN, f"waits for run {child_id} (g/greet)")
    assert why(s, child_id)["slow"].fact is Fact.CLAIMED


def test_compensations_are_not_missing_before_they_may_begin(anabranch_system: Start) -> None:
    s = submitted(anabranch_system, task("charge", compensate={"agent": "echo"}), task("slow", "long"))

    assert {name: each.fact for name, each in why(s).items()} == {"slow": Fact.CLAIMED}


def test_a_compensation_says_what_it_waits_for(anabranch_system: Start) -> None:
    broken = task("broken", "fail", after=["charge"])
    s = submitted(anabranch_system, task("charge", compensate={"agent": "long"}), broken)

    found = why(s)

    assert [(name, each.group, each.fact) for name, each in found.items()] == [
        ("charge", "compensate", Fact.CLAIMED)
    ]


def test_each_reason_says_what_to_do() -> None:
    assert all(meaning.says and meaning.remedy for meaning in MEANINGS.values())
