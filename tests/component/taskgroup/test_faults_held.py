"""Held members through the whole system: the join waits until a redrive completes or a dismissal ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from small_requests import alive, array, request, task

from anabranch import GiveUp, Task
from anabranch.core.wire.dead_letters import CODE, SIGNATURE, MemberDeadLetter
from anabranch.testing import System

Start = Callable[..., System]
HELD = {"on_failure": "hold", "timeout": "10s"}


class Broken:
    """An agent that fails for bad items, until it is repaired."""

    def __init__(self, *bad: Any) -> None:
        self.bad = set(bad)
        self.attempts: list[int] = []

    def __call__(self, task: Task) -> Any:
        if task.inputs in self.bad:
            self.attempts.append(task.attempt)
            raise GiveUp(f"item {task.inputs} is bad")
        return task.inputs


def started(start: Start, *bad: Any) -> tuple[System, Broken]:
    broken = Broken(*bad)

    async def frail(task: Task) -> Any:  # on the loop: `advance` does not wait for threads
        return broken(task)

    return start(agents={"frail": frail}), broken


def wide(**more: Any) -> dict[str, Any]:
    return request(
        task("wide", "frail", "{item}", expansion_config=array([1, 2, 3, 4]), **{**HELD, **more}),
        task("after", inputs="{wide}", dependencies=["wide"]),
    )


def dead_letters_of(s: System) -> list[MemberDeadLetter]:
    return [MemberDeadLetter.model_validate_json(each.value) for each in s.records("dead-letters")]


def test_a_redrive_completes_the_join_that_is_still_open(anabranch_system: Start) -> None:
    s, broken = started(anabranch_system, 2, 3)
    run = s.submit(wide())
    s.advance(60)
    assert [(dead_letter.index, dead_letter.held) for dead_letter in dead_letters_of(s)] == [(1, True), (2, True)]

    broken.bad.clear()
    run.redrive()
    result = run.result(60)

    assert (result.status, result.results["after"]) == ("completed", [1, 2, 3, 4])
    assert result.executions == {"total": 5, "completed": 5, "failed": 0, "skipped": 0}
    alive(s)


def test_a_member_that_fails_again_is_held_again_with_attempts_from_one(anabranch_system: Start) -> None:
    s, broken = started(anabranch_system, 2)
    run = s.submit(wide())
    s.advance(60)
    run.redrive(task="wide", indexes=[1])
    s.advance(60)
    assert broken.attempts == [1, 1]

    run.dismiss()
    result = run.result(60)

    assert (result.status, [each["index"] for each in result.failures]) == ("failed", [1])
    assert len(dead_letters_of(s)) == 2
    assert len({dict(each.headers)[SIGNATURE] for each in s.records("dead-letters")}) == 1


def test_a_dismissed_member_may_be_tolerated(anabranch_system: Start) -> None:
    s, _ = started(anabranch_system, 2)
    run = s.submit(wide(tolerated_failures=1))
    s.advance(60)
    run.dismiss(group="g", task="wide", indexes=[1])

    result = run.result(60)

    assert (result.status, result.results["after"]) == ("completed", [1, 3, 4])


def test_an_ordinary_task_is_held_and_redriven(anabranch_system: Start) -> None:
    s, broken = started(anabranch_system, "x")
    run = s.submit(request(task("one", "frail", "x", **HELD), task("after", inputs="{one}", dependencies=["one"])))
    s.advance(60)
    [dead_letter] = dead_letters_of(s)
    assert (dead_letter.index, dead_letter.member, dead_letter.held) == (None, "one", True)

    broken.bad.clear()
    run.redrive()

    assert run.result(60).results["after"] == "x"


def test_the_runs_timeout_ends_the_wait(anabranch_system: Start) -> None:
    s, _ = started(anabranch_system, 2)

    result = s.run(wide() | {"timeout": "5m"}, timeout=400)

    assert result.status == "timed_out"
    assert [(each["index"], each["error_type"]) for each in result.failures] == [(1, "GiveUp")]
    assert result.executions["failed"] == 1
    assert result.duration_seconds == pytest.approx(300, abs=2)


def test_a_cancel_ends_the_wait(anabranch_system: Start) -> None:
    s, _ = started(anabranch_system, 2)
    run = s.submit(wide())
    s.advance(60)
    run.cancel()

    result = run.result(60)

    assert (result.status, result.results["wide"]) == ("cancelled", [1, 3, 4])
    assert [each["index"] for each in result.failures] == [1]


def test_events_say_what_is_held_redriven_and_dismissed(anabranch_system: Start) -> None:
    s, _ = started(anabranch_system, 2)
    run = s.submit(wide())
    s.advance(60)
    run.redrive()
    s.advance(60)
    run.dismiss()
    run.result(60)

    shown = [
        (event["type"], *(name for name in ("held", "redriven", "dismissed") if event.get(name)))
        for event in run.events()
        if event["type"] in ("task.failed", "task.retrying")
    ]
    assert shown == [
        ("task.failed", "held"),
        ("task.retrying", "redriven"),
        ("task.failed", "held"),
        ("task.failed", "dismissed"),
    ]


def test_every_failed_member_has_a_dead_letter_with_its_origin(anabranch_system: Start) -> None:
    s, _ = started(anabranch_system, 2, 4)
    result = s.run(wide(on_failure="fail", tolerated_failures=2), timeout=60)
    s.advance(1)

    records = s.records("dead-letters")
    assert result.status == "completed"
    assert sorted(orjson.loads(each.value)["index"] for each in records) == [1, 3]
    assert {dict(each.headers)[CODE] for each in records} == {b"member_failed"}
    assert {each.key for each in records} == {result.run_id.encode()}
    assert len({dict(each.headers)[SIGNATURE] for each in records}) == 1
