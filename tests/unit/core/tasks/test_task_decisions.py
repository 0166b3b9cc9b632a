"""What happens to a task and its executions: starts, ends, cancellation, retries."""

from __future__ import annotations

from datetime import timedelta

import pytest
from task_examples import NOW, execution, id_of, task

from anabranch.core.tasks.decisions import (
    changed,
    check_dependencies,
    check_startable,
    execution_cancelled,
    execution_ended,
    execution_started,
    queued,
    retried,
    standing,
    task_cancelled,
    task_ended,
    task_started,
    wants_of,
)
from anabranch.core.tasks.errors import TaskRefused, TaskStateError
from anabranch.core.tasks.kinds import ExecutionStatus, TaskPriority, TaskStatus, TaskType
from anabranch.core.tasks.outcomes import Outcome, outcome_of

LATER = NOW + timedelta(seconds=10)
COMPLETED = Outcome(ExecutionStatus.COMPLETED, result=7)
FAILED = Outcome(
    ExecutionStatus.FAILED, error={"error_type": "OSError", "message": "no disk", "traceback": "Traceback"}
)


def test_a_new_task_is_pending_and_was_never_retried() -> None:
    made = task()

    assert (made.status, made.retry_count, made.depends_on) == (TaskStatus.PENDING, 0, set())
    assert (made.priority, made.task_type) == (TaskPriority.NORMAL, TaskType.CUSTOM)


def test_executions_are_numbered_and_have_request_ids_of_their_own() -> None:
    first_of, first = queued(task(), id_of(11), NOW)
    _, second = queued(first_of, id_of(12), NOW)

    assert (first.execution_number, second.execution_number) == (1, 2)
    assert (first.request_id, second.request_id) == (f"task/{id_of(1)}/1", f"task/{id_of(1)}/2")
    assert first.run_id != second.run_id
    assert first_of.status == TaskStatus.READY


def test_a_start_is_counted_once() -> None:
    started = task_started(task(), NOW)
    again = task_started(started.model_copy(update={"status": TaskStatus.READY}), LATER)

    assert (started.status, started.started_at) == (TaskStatus.RUNNING, NOW)
    assert again.started_at == NOW


def test_a_completed_execution_completes_its_task() -> None:
    waiting, made = queued(task(), id_of(11), NOW)
    ended = execution_ended(execution_started(made, "a", NOW), COMPLETED, LATER)
    over = task_ended(task_started(waiting, NOW), ended, LATER)

    assert (ended.status, ended.result, ended.holds_slot) == (ExecutionStatus.COMPLETED, 7, False)
    assert (over.status, over.result, over.completed_at) == (TaskStatus.COMPLETED, 7, LATER)
    assert over.duration_seconds == 10


def test_a_failure_keeps_its_type_message_time_and_traceback() -> None:
    waiting, made = queued(task(), id_of(11), NOW)
    ended = execution_ended(execution_started(made, "a", NOW), FAILED, LATER)
    over = task_ended(task_started(waiting, NOW), ended, LATER)

    assert ended.error is not None
    assert (ended.error.error_type, ended.error.message) == ("OSError", "no disk")
    assert (ended.error.time, ended.error.traceback) == (LATER, "Traceback")
    assert (over.status, over.error_message, over.can_retry()) == (TaskStatus.FAILED, "no disk", True)


def test_a_timeout_fails_the_task_with_the_reason() -> None:
    waiting, made = queued(task(), id_of(11), NOW)
    outcome = outcome_of({"status": "timed_out", "duration_seconds": 5}, {})
    over = task_ended(waiting, execution_ended(made, outcome, LATER), LATER)

    assert (over.status, over.error_message) == (TaskStatus.FAILED, "Task execution timed out")


@pytest.mark.parametrize(
    ("total", "calls", "attempts", "retries"),
    [(1, 1, None, 0), (1, 3, None, 2), (1, 0, None, 0), (1, 4, 3, 2), (2, 3, None, None)],
    ids=["called once", "called again", "from the cache", "failed", "several members"],
)
def test_the_final_record_says_how_often_work_was_repeated(
    total: int, calls: int, attempts: int | None, retries: int | None
) -> None:
    failures = [] if attempts is None else [{"error_type": "E", "message": "m", "attempts": attempts}]
    body = {"executions": {"total": total}, "costs": {"executions": calls}, "failures": failures}
    status = "failed" if failures else "completed"

    assert outcome_of({**body, "status": status}, {}).retries == retries
    assert outcome_of({"status": status}, {}).retries is None


def test_a_second_end_changes_nothing() -> None:
    waiting, made = queued(task(), id_of(11), NOW)
    ended = execution_ended(execution_started(made, "a", NOW), COMPLETED, LATER)
    over = task_ended(task_started(waiting, NOW), ended, LATER)

    assert execution_ended(ended, FAILED, LATER) == ended
    assert task_ended(over, execution_ended(ended, FAILED, LATER), LATER) is over


def test_a_cancelled_execution_keeps_its_slot_until_its_run_has_ended() -> None:
    started = execution_started(execution(), "a", NOW)
    stopped = execution_cancelled(started, "not needed", NOW)

    assert (stopped.status, stopped.holds_slot, stopped.cancel_reason) == (
        ExecutionStatus.CANCELLED,
        True,
        "not needed",
    )
    ended = execution_ended(stopped, COMPLETED, LATER)
    assert (ended.status, ended.holds_slot) == (ExecutionStatus.CANCELLED, False)


def test_the_end_of_an_earlier_execution_does_not_end_the_task() -> None:
    first_of, first = queued(task(), id_of(11), NOW)
    second_of, _ = queued(first_of, id_of(12), NOW)
    ended = execution_ended(first, FAILED, LATER)

    assert task_ended(second_of, ended, LATER) is second_of


def test_a_task_is_retried_as_often_as_it_may() -> None:
    failed = task(max_retries=1, status=TaskStatus.FAILED, execution_count=1, error_message="no disk")
    again, made = retried(failed, id_of(11), NOW)

    assert (again.status, again.retry_count, again.error_message) == (TaskStatus.READY, 1, None)
    assert made.execution_number == 2
    spent = again.model_copy(update={"status": TaskStatus.FAILED})
    assert not spent.can_retry()
    with pytest.raises(TaskStateError, match="was retried 1 times, and max_retries is 1"):
        retried(spent, id_of(12), NOW)


@pytest.mark.parametrize("status", [TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.COMPLETED])
def test_only_a_failed_task_is_retried(status: TaskStatus) -> None:
    with pytest.raises(TaskStateError, match="only a failed task can be retried"):
        retried(task(status=status), id_of(11), NOW)


@pytest.mark.parametrize(
    "status", [TaskStatus.RUNNING, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED]
)
def test_what_runs_or_has_ended_is_not_changed(status: TaskStatus) -> None:
    with pytest.raises(TaskStateError, match=f"is {status} and cannot be updated"):
        changed(task(status=status), {"name": "other"}, NOW)


def test_a_change_is_validated() -> None:
    assert changed(task(), {"name": "other"}, LATER).updated_at == LATER
    with pytest.raises(ValueError, match="name"):
        changed(task(), {"name": ""}, NOW)


def test_a_task_waits_for_what_has_not_completed() -> None:
    pending, done, failed = TaskStatus.PENDING, TaskStatus.COMPLETED, TaskStatus.FAILED

    assert standing({id_of(1): done}).waiting == 0
    assert standing({id_of(1): pending, id_of(2): done}).waiting == 1
    waits = standing({id_of(1): pending, id_of(2): failed})
    assert waits.waiting == 2
    assert waits.reason == f"Dependency task {id_of(2)} failed: it starts when that is retried and completes"
    with pytest.raises(TaskStateError, match=f"Dependency task {id_of(2)} failed"):
        check_startable(task(3, (1, 2)), waits)


def test_every_wrong_dependency_is_named() -> None:
    with pytest.raises(TaskRefused) as refused:
        check_dependencies(id_of(1), [id_of(1), id_of(2), id_of(3)], [id_of(1), id_of(3)])

    assert refused.value.problems == (
        "Task cannot depend on itself",
        f"Dependency task {id_of(2)} does not exist",
    )


def test_a_cancelled_task_says_why() -> None:
    over = task_cancelled(task(), "not needed", LATER)

    assert (over.status, over.reason, over.completed_at) == (TaskStatus.CANCELLED, "not needed", LATER)


def test_a_task_wants_its_agent_or_the_capability_of_its_type() -> None:
    assert wants_of(task(assigned_to="ann")) == "agent/ann"
    assert wants_of(task(task_type="testing")) == "capability/testing"


def test_a_rejected_request_fails_the_task_with_every_reason() -> None:
    errors = [{"path": "task_groups[0]", "message": "no"}, {"path": None, "message": "too long"}]
    outcome = outcome_of({"status": "rejected", "errors": errors}, {})

    assert outcome.error == {
        "error_type": "RequestRefused",
        "message": "task_groups[0]: no; the request: too long",
    }
