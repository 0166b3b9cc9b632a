"""Events, views and members agree with what happened in a run: failed joins, later attempts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from small_requests import array, request, task

from anabranch import Task
from anabranch.cli.commands.list_status_result import _show_view
from anabranch.cli.commands.run import summarise
from anabranch.core.wire.codec import encode
from anabranch.core.wire.events import decode_batch
from anabranch.core.wire.messages import FailRun
from anabranch.core.wire.run_view import RunView
from anabranch.dead_letters.decisions import plan_redrive
from anabranch.dead_letters.reader import DeadLetter
from anabranch.ports import Incoming, Outgoing
from anabranch.testing import System
from anabranch_eventmanager.projection.decisions import EventProjection, RecordPosition
from anabranch_eventmanager.projection.documents import run_key
from anabranch_eventmanager.projection.run_views import build_view
from anabranch_gateway.runs.inspection import _Attempts, _usage
from anabranch_gateway.runs.member_projection import RunMembers

Start = Callable[..., System]


def batches_of(system: System, run_id: str) -> list[Any]:
    records = system.records("events")
    found = [decode_batch(each.value) for each in records if b'"entries"' in each.value]
    return [each for each in found if each.run_id == run_id]


def view_of(system: System, run_id: str) -> RunView:
    core, documents = EventProjection("ch"), {}
    for offset, batch in enumerate(batches_of(system, run_id)):
        documents |= core.apply(documents, batch, RecordPosition(0, offset, 0.0)).writes
    return build_view(documents[run_key(run_id)])


async def odd_ones_fail(task: Task) -> int:
    if (task.index or 0) % 2:
        raise ValueError("odd")
    return task.index or 0


@pytest.mark.parametrize(("tolerated", "status"), [(0, "failed"), (2, "completed")])
def test_a_task_whose_failures_fail_it_is_failed_in_events_and_view(
    anabranch_system: Start, tolerated: int, status: str
) -> None:
    system = anabranch_system(agents={"odd": odd_ones_fail})
    wide = task("out", "odd", expansion_config=array([1, 2, 3, 4]), tolerated_failures=tolerated)
    run = system.submit(request(wide))
    assert run.result().status == status

    [joined] = [event for event in run.events() if event["type"] == "task.joined"]
    assert (joined["status"], joined["failed"]) == (status, 2)
    view = view_of(system, run.run_id)
    [(_, group)] = view.groups.items()
    assert (group.status, group.tasks["out"].status) == (status, status)


@pytest.mark.parametrize("delay", [0.5, 60])
def test_a_later_attempt_has_its_start_its_end_and_its_worker(anabranch_system: Start, delay: float) -> None:
    """Retried by the worker that has the member, or offered to all workers after a longer delay."""

    async def fails_twice(task: Task) -> int:
        if task.attempt < 3:
            raise ValueError("again")
        return task.attempt

    system = anabranch_system(agents={"flaky": fails_twice})
    policy = {"strategy": "fixed", "delay": delay, "max_attempts": 3}
    run = system.submit(request(task("out", "flaky", retry=policy)))
    assert run.result().results["out"] == 3

    attempts = [(each["type"], each["attempt"]) for each in run.events() if each.get("attempt")]
    assert attempts == [
        ("task.started", 1),
        ("task.retrying", 1),
        ("task.started", 2),
        ("task.retrying", 2),
        ("task.started", 3),
        ("task.completed", 3),
    ]
    attempts, members = _Attempts(), RunMembers(0)
    for batch in batches_of(system, run.run_id):
        members.apply(batch)
        for entry in batch.entries:
            if entry.type in ("task.started", "task.retrying", "task.completed"):
                attempts.add(entry, _usage(entry, None))
    assert [each["attempt"] for each in attempts.documents] == [1, 2, 3]
    starts = [each["started_at"] for each in attempts.documents]
    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(starts)]
    assert gaps == [round(delay)] * 2
    assert all(each["worker"] and each["ended_at"] >= each["started_at"] for each in attempts.documents)
    [(_, folded)] = members.tasks.items()
    assert (folded.attempts[0], folded.started_at[0]) == (3, starts[2])
    attempt = view_of(system, run.run_id).groups["g"].tasks["out"].attempt
    assert attempt is not None
    assert (attempt.number, attempt.started_at) == (3, starts[2])
    assert attempt.worker
    assert attempt.ended_at is not None


def test_status_says_where_a_later_attempt_runs(capsys: pytest.CaptureFixture[str]) -> None:
    attempt = {"number": 2, "started_at": 1.0, "ended_at": None, "worker": "w-1"}
    state = {"status": "running", "expanded": False, "members": 1, "attempt": attempt}
    view = {"run_id": "r", "status": "running", "groups": {"g": {"status": "running", "tasks": {"t": state}}}}
    _show_view(RunView.from_document(view), None)
    assert "t: running, attempt 2 on w-1 since 1970-01-01 00:00:01" in capsys.readouterr().err
    attempt["ended_at"] = 3.5
    _show_view(RunView.from_document(view), None)
    assert "t: running, attempt 2 on w-1 took 2.5 s" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "refused"), [("cycle", True), ("unknown_agent", False)])
def test_a_redrive_is_not_suggested_if_the_same_bytes_are_always_refused(code: str, refused: bool) -> None:
    record = Incoming("anabranch.dead-letters", 0, 7, None, b"{}", (), 0.0)
    dead_letter = DeadLetter(record, code, "[]", "anabranch.requests/0/1", "s")
    decisions = plan_redrive([dead_letter], {}, "anabranch.requests")
    assert ([reason for _, reason in decisions.refused] != []) is refused


def test_why_a_run_failed_as_a_whole_is_shown(anabranch_system: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """For example a run whose records are lost: none of its tasks has failed."""
    system = anabranch_system()
    run = system.submit(request(task("waits", external_dependencies=["never"]), request_id="q"))
    system.advance(5)
    names = system.embedded.names
    lost = FailRun(run_id=run.run_id, error_type="RunLost", message="its records are gone", abandoned=True)
    system.wait(system.embedded.log.publish([Outgoing(names.runs, run.run_id, encode(lost))]))
    result = run.result(60)
    assert result.status == "failed"

    view = view_of(system, run.run_id)

    assert (view.status, view.failure_count) == ("failed", 1)
    [failure] = view.failures
    assert (failure["error_type"], failure["message"]) == ("RunLost", "its records are gone")
    summarise(result)
    _show_view(view, None)
    assert capsys.readouterr().err.count("the run: RunLost: its records are gone") == 2
