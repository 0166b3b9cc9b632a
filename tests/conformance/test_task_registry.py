"""The registry of tasks on SQLite and PostgreSQL: what each operation writes, also with others in its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from task_examples import NOW, id_of, task
from task_registries import COMPLETED, FAILED, TestedRegistry

from anabranch.adapters.sql.database import Database
from anabranch.core.tasks.availability import availability
from anabranch.core.tasks.dependencies import CircularDependencyError
from anabranch.core.tasks.errors import TaskNotFound, TaskRefused, TaskStateError
from anabranch.core.tasks.filters import ExecutionFilter, TaskFilter
from anabranch.core.tasks.kinds import ExecutionStatus, TaskStatus
from anabranch.core.tasks.models import AgentRecord, Project, ResourceUsage, TaskExecution
from anabranch.registry import tasks as registry


@pytest.fixture
def tasks(database: Database) -> TestedRegistry:
    return TestedRegistry(database)


ONE, TWO, THREE = id_of(1), id_of(2), id_of(3)


def test_a_task_is_read_as_it_was_written(tasks: TestedRegistry) -> None:
    project = Project(id="p", name="P", created_at=NOW, updated_at=NOW, metadata={"a": 1})
    tasks.write(lambda tx: tx.tasks.add_project(project))
    given = task(
        2,
        (1,),
        project_id="p",
        description="what",
        task_type="testing",
        priority="critical",
        assigned_to="ann",
        deadline=NOW + timedelta(days=1),
        timeout_seconds=1.5,
        max_retries=0,
        tags={"b", "a"},
        metadata={"deep": [1, {"x": None}]},
        execution_context={"path": "/"},
        resource_requirements={"cpu_cores": 4},
    )
    tasks.create(task(1), given)

    assert tasks.task(TWO) == given
    assert tasks.read(lambda tx: tx.tasks.project("p")) == project


def test_an_execution_is_read_as_it_was_written(tasks: TestedRegistry) -> None:
    tasks.create(task(1))
    made = tasks.execute(ONE)
    full = made.model_copy(
        update={
            "status": ExecutionStatus.COMPLETED,
            "executor_id": "ann",
            "scheduled_at": NOW,
            "started_at": NOW,
            "completed_at": NOW + timedelta(seconds=1),
            "resource_usage": ResourceUsage(cpu_percent=12.5, usd=0.25),
            "result": [1, None],
            "data": {"k": "v"},
        }
    )
    tasks.write(lambda tx: tx.executions.save([full]))

    assert tasks.execution(ONE) == full


def test_a_task_is_created_once(tasks: TestedRegistry) -> None:
    tasks.create(task(1, name="first"))
    (again,) = tasks.create(task(1, name="second"))

    assert again.name == "first"


def test_callers_that_create_one_id_at_the_same_moment_get_one_task(tasks: TestedRegistry) -> None:
    rounds = range(1, 31)
    callers = 4
    meet = threading.Barrier(callers)
    found: list[tuple[int, str, str]] = []

    def create(caller: int) -> None:
        for number in rounds:
            meet.wait(60)
            # A batch, in which others depend on the task that all create.
            own = 1000 * (caller + 1) + number
            first, _ = tasks.create(task(number, name=f"of {caller}"), task(own, (number,)))
            found.append((number, str(first.id), first.name))

    _at_once(*(lambda caller=caller: create(caller) for caller in range(callers)))  # type: ignore[misc]

    assert len(found) == callers * len(rounds)
    assert len(set(found)) == len(rounds), "callers were told different tasks for one id"
    assert len(tasks.read(lambda tx: tx.tasks.list_tasks(TaskFilter(limit=None)))) == (callers + 1) * len(rounds)


def test_the_id_of_a_deleted_task_is_not_used_again(tasks: TestedRegistry) -> None:
    tasks.create(task(1))
    tasks.write(lambda tx: registry.delete(tx, ONE))

    with pytest.raises(TaskStateError, match=f"the task id {ONE} was used before"):
        tasks.create(task(1, name="again"), task(2))
    assert tasks.read(lambda tx: tx.tasks.list_tasks(TaskFilter())) == []


def test_tasks_that_are_created_together_may_depend_on_each_other_in_any_order(tasks: TestedRegistry) -> None:
    tasks.create(task(2, (1,)), task(1), task(3, (1, 2)))

    assert tasks.task(THREE).depends_on == {ONE, TWO}


def test_a_wrong_dependency_leaves_nothing_behind(tasks: TestedRegistry) -> None:
    with pytest.raises(TaskRefused, match=f"Dependency task {id_of(9)} does not exist"):
        tasks.create(task(1), task(2, (9,)))
    with pytest.raises(TaskRefused, match="Task cannot depend on itself"):
        tasks.create(task(1), task(2, (2,)))
    with pytest.raises(CircularDependencyError, match=f"{ONE} -> {TWO} -> {ONE}"):
        tasks.create(task(1, (2,)), task(2, (1,)))
    with pytest.raises(TaskRefused, match="Project none does not exist"):
        tasks.create(task(1, project_id="none"))

    assert tasks.read(lambda tx: tx.tasks.list_tasks(TaskFilter())) == []


def test_dependents_start_by_themselves(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2, (1,)), task(3, (1, 2)))
    tasks.execute(ONE)

    assert tasks.started() == ["task 1"]
    tasks.end_task(ONE)
    assert tasks.started() == ["task 2"]
    tasks.end_task(TWO)
    assert tasks.started() == ["task 3"]
    tasks.end_task(THREE)
    assert tasks.started() == []
    assert {tasks.task(each).status for each in (ONE, TWO, THREE)} == {TaskStatus.COMPLETED}


def test_a_task_whose_dependencies_have_completed_starts_when_it_is_created(tasks: TestedRegistry) -> None:
    tasks.create(task(1))
    tasks.execute(ONE)
    tasks.start()
    tasks.end_task(ONE)
    tasks.create(task(2, (1,)), task(3))

    assert tasks.started() == ["task 2"]


def test_a_dependent_of_a_failed_task_waits_until_that_is_retried(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2, (1,)))
    tasks.execute(ONE)
    tasks.start()
    tasks.end_task(ONE, FAILED)

    assert (tasks.task(ONE).status, tasks.task(ONE).error_message) == (TaskStatus.FAILED, "no disk")
    waiting = tasks.task(TWO)
    assert waiting.status == TaskStatus.PENDING
    assert waiting.reason == f"Dependency task {ONE} failed: it starts when that is retried and completes"
    with pytest.raises(TaskStateError, match=f"Dependency task {ONE} failed"):
        tasks.execute(TWO)

    assert tasks.retry(ONE).execution_number == 2
    assert tasks.task(TWO).reason is None
    assert tasks.started() == ["task 1"]
    tasks.end_task(ONE)
    assert tasks.started() == ["task 2"]


def test_the_most_urgent_starts_first_and_the_cap_holds(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2, priority="high"), task(3), task(4, deadline=NOW + timedelta(minutes=10)))
    for number in (1, 2, 3, 4):
        tasks.execute(id_of(number))

    # A deadline within an hour raises by two levels.
    assert tasks.started(cap=2) == ["task 4", "task 2"]
    assert tasks.started(cap=2) == []
    tasks.end_task(TWO)
    assert tasks.started(cap=2) == ["task 1"]


def test_a_cancelled_execution_counts_until_its_run_has_ended(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2))
    tasks.execute(ONE)
    tasks.execute(TWO)
    tasks.start(cap=1)

    assert tasks.cancel(ONE, "not needed")
    assert tasks.task(ONE).status == TaskStatus.CANCELLED
    assert tasks.started(cap=1) == []
    tasks.end_task(ONE, FAILED)
    assert (tasks.task(ONE).status, tasks.task(ONE).reason) == (TaskStatus.CANCELLED, "not needed")
    assert tasks.started(cap=1) == ["task 2"]


def test_cancelling_says_whether_it_did_something(tasks: TestedRegistry) -> None:
    tasks.create(task(1))

    assert not tasks.cancel(id_of(9))
    assert tasks.cancel(ONE)
    before = tasks.task(ONE)
    assert not tasks.cancel(ONE, "again")
    assert tasks.task(ONE) == before


def test_the_command_to_cancel_is_in_the_outbox(tasks: TestedRegistry) -> None:
    tasks.create(task(1))
    made = tasks.execute(ONE)
    tasks.start()
    tasks.cancel(ONE, "not needed")

    taken = tasks.write(lambda tx: tx.executions.take_outbox(tx.seconds, tx.seconds + 10, 10))
    assert [row.document for row in taken] == [
        {"type": "cancel", "request_id": made.request_id, "reason": "not needed"}
    ]


def test_a_request_that_was_not_published_is_taken_by_another_process(tasks: TestedRegistry) -> None:
    tasks.create(task(1))
    tasks.execute(ONE)
    (row,) = tasks.start()

    def take() -> list[object]:
        return list(tasks.write(lambda tx: tx.executions.take_outbox(tx.seconds, tx.seconds + 10, 10)))

    assert take() == []
    tasks.advance(11)
    assert take() == [row]
    assert take() == []
    tasks.write(lambda tx: tx.executions.published([row.id], tx.seconds))
    tasks.advance(60)
    assert take() == []


def test_the_end_of_an_execution_counts_once(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2, (1,)))
    tasks.execute(ONE)
    tasks.start()

    assert len(tasks.end_task(ONE)) == 1
    assert tasks.end_task(ONE, FAILED) == []
    assert tasks.task(ONE).status == TaskStatus.COMPLETED
    assert len(tasks.read(lambda tx: tx.executions.list_executions(ExecutionFilter()))) == 2
    assert tasks.end({"task/unknown/1": COMPLETED}) == []


def test_an_execution_waits_for_an_agent_and_says_for_what(tasks: TestedRegistry) -> None:
    tasks.create(task(1, task_type="deployment"), task(2, assigned_to="cid"))
    tasks.execute(ONE)
    tasks.execute(TWO)

    assert tasks.started() == []
    assert "the capability 'deployment'" in str(tasks.execution(ONE).reason)
    assert "the agent 'cid'" in str(tasks.execution(TWO).reason)
    assert tasks.started(agents=availability({"cid": ["deployment"]})) == ["task 1", "task 2"]
    assert tasks.execution(ONE).reason is None


def test_work_is_spread_over_the_agents(tasks: TestedRegistry) -> None:
    tasks.create(*(task(number) for number in range(1, 5)))
    for number in range(1, 5):
        tasks.execute(id_of(number))
    tasks.start()

    chosen = [tasks.execution(id_of(number)).executor_id for number in range(1, 5)]
    assert sorted(map(str, chosen)) == ["ann", "ann", "bob", "bob"]


def test_what_runs_is_neither_changed_nor_deleted(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2))
    tasks.execute(ONE)
    tasks.start()

    for work in (lambda: tasks.change(ONE, name="x"), lambda: tasks.write(lambda tx: registry.delete(tx, ONE))):
        with pytest.raises(TaskStateError, match="is running"):
            work()
    tasks.write(lambda tx: registry.delete(tx, TWO))
    with pytest.raises(TaskNotFound, match=f"there is no task {TWO}"):
        tasks.task(TWO)
    with pytest.raises(TaskRefused, match=f"Dependency task {TWO} does not exist"):
        tasks.create(task(3, (2,)))


def test_a_dependent_of_a_deleted_task_says_so(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2, (1,)))
    tasks.write(lambda tx: registry.delete(tx, ONE))

    assert tasks.task(TWO).reason == (
        f"Dependency task {ONE} was cancelled: it starts when that is retried and completes"
    )


def test_dependencies_are_changed_until_the_task_starts(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2), task(3, (1,)))

    with pytest.raises(CircularDependencyError, match=f"{ONE} -> {THREE} -> {ONE}"):
        tasks.change(ONE, depends_on={THREE})
    with pytest.raises(TaskRefused, match="does not exist"):
        tasks.change(THREE, depends_on={id_of(9)})
    assert tasks.change(THREE, depends_on={TWO}).depends_on == {TWO}
    tasks.execute(TWO)
    tasks.start()
    tasks.end_task(TWO)
    assert tasks.started() == ["task 3"]


def test_a_queued_task_that_gets_a_dependency_waits_again(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2))
    tasks.execute(TWO)
    tasks.change(TWO, depends_on={ONE})

    assert tasks.started() == []
    assert tasks.task(TWO).status == TaskStatus.PENDING
    tasks.execute(ONE)
    tasks.start()
    tasks.end_task(ONE)
    assert tasks.started() == ["task 2"]
    assert tasks.execution(TWO).execution_number == 2


def test_a_queued_execution_follows_its_task(tasks: TestedRegistry) -> None:
    tasks.create(task(1), task(2))
    tasks.execute(ONE)
    tasks.execute(TWO)
    tasks.change(TWO, priority="critical", assigned_to="bob")

    assert tasks.started(cap=1) == ["task 2"]
    assert tasks.execution(TWO).executor_id == "bob"


def test_executing_twice_starts_once(tasks: TestedRegistry) -> None:
    tasks.create(task(1))
    first, second = tasks.execute(ONE), tasks.execute(ONE)
    tasks.start()
    third = tasks.execute(ONE)

    assert first.id == second.id == third.id
    tasks.end_task(ONE)
    with pytest.raises(TaskStateError, match="is completed and cannot be executed: create a new task"):
        tasks.execute(ONE)


def test_lists_are_filtered_and_the_newest_first(tasks: TestedRegistry) -> None:
    tasks.create(task(1, task_type="testing"), task(2, assigned_to="ann"), task(3, name="100% done"))
    tasks.cancel(THREE)

    def names(**wanted: object) -> list[str]:
        found = tasks.read(lambda tx: tx.tasks.list_tasks(TaskFilter(**wanted)))  # type: ignore[arg-type]
        return [each.name for each in found]

    assert names() == ["100% done", "task 2", "task 1"]
    assert names(limit=1, offset=1) == ["task 2"]
    assert names(status=(TaskStatus.CANCELLED,)) == ["100% done"]
    assert names(task_type="testing") == ["task 1"]
    assert names(assigned_to="ann") == ["task 2"]
    assert names(text="0% d") == ["100% done"]
    assert names(text="%") == ["100% done"]
    assert names(owner="other") == []
    newest = tasks.task(TWO)
    assert names(after=(newest.created_at.timestamp(), str(newest.id))) == ["task 1"]
    counts = tasks.read(lambda tx: tx.tasks.counts(None))
    assert (counts[TaskStatus.PENDING], counts[TaskStatus.CANCELLED], counts[TaskStatus.RUNNING]) == (2, 1, 0)


def test_registering_an_agent_twice_replaces_it(tasks: TestedRegistry) -> None:
    def register(*capabilities: str) -> None:
        record = AgentRecord(id="ann", capabilities=set(capabilities), registered_at=NOW)
        tasks.write(lambda tx: tx.tasks.put_agent(record))

    register("testing")
    register("monitoring")

    (found,) = tasks.read(lambda tx: tx.tasks.agents())
    assert found.capabilities == {"monitoring"}
    assert tasks.write(lambda tx: tx.tasks.remove_agent("ann"))
    assert not tasks.write(lambda tx: tx.tasks.remove_agent("ann"))


def test_tasks_of_another_owner_are_not_found(tasks: TestedRegistry) -> None:
    tasks.create(task(1, owner="other"))

    with pytest.raises(TaskNotFound):
        tasks.read(lambda tx: registry.get(tx, ONE, "default"))
    assert not tasks.write(lambda tx: registry.cancel(tx, ONE, owner="default"))


def test_several_processes_never_start_more_than_the_cap(tasks: TestedRegistry) -> None:
    tasks.create(*(task(number) for number in range(1, 41)))
    tasks.write(lambda tx: [registry.execute(tx, id_of(number)) for number in range(1, 41)])
    started: list[str] = []

    def work() -> None:
        for _ in range(5):
            started.extend(tasks.started(cap=7))

    _at_once(*[work] * 4)

    assert len(started) == len(set(started)) == 7


def test_changes_at_once_close_no_circle(tasks: TestedRegistry) -> None:
    rounds = range(1, 21)
    tasks.create(*(task(number) for number in (*rounds, *(100 + each for each in rounds))))
    refused: list[int] = []

    def depend(number: int, other: int) -> None:
        try:
            tasks.write(lambda tx: registry.add_dependency(tx, id_of(number), id_of(other)))
        except CircularDependencyError:
            refused.append(min(number, other))

    def forward() -> None:
        for number in rounds:
            depend(number, 100 + number)

    def backward() -> None:
        for number in rounds:
            depend(100 + number, number)

    _at_once(forward, backward)

    assert sorted(refused) == list(rounds)


def test_a_task_completes_while_its_dependent_is_created(tasks: TestedRegistry) -> None:
    rounds = range(1, 21)
    tasks.create(*(task(number) for number in rounds))
    tasks.write(lambda tx: [registry.execute(tx, id_of(number)) for number in rounds])
    tasks.start()
    executions = {number: tasks.execution(id_of(number)).request_id for number in rounds}

    def complete() -> None:
        for number in rounds:
            tasks.end({executions[number]: COMPLETED})

    def create() -> None:
        for number in rounds:
            tasks.create(task(100 + number, (number,)))

    _at_once(complete, create)

    # Whichever was first: each dependent was queued once, and none is forgotten.
    names = sorted(f"task {100 + number}" for number in rounds)
    assert sorted(tasks.started()) == names
    assert tasks.started() == []


def test_a_task_ends_while_it_is_cancelled(tasks: TestedRegistry) -> None:
    rounds = range(1, 21)
    tasks.create(*(task(number) for number in rounds))
    tasks.write(lambda tx: [registry.execute(tx, id_of(number)) for number in rounds])
    tasks.start()
    executions = {number: tasks.execution(id_of(number)) for number in rounds}
    cancelled: dict[int, bool] = {}

    def complete() -> None:
        for number in rounds:
            tasks.end({executions[number].request_id: COMPLETED})

    def cancel() -> None:
        for number in rounds:
            cancelled[number] = tasks.cancel(id_of(number))

    _at_once(complete, cancel)

    for number in rounds:
        wanted = TaskStatus.CANCELLED if cancelled[number] else TaskStatus.COMPLETED
        assert tasks.task(id_of(number)).status == wanted
        assert str(tasks.execution(id_of(number)).status) == str(wanted)
    held: list[TaskExecution] = tasks.read(lambda tx: tx.executions.with_slot())
    assert held == []


def _at_once(*works: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
