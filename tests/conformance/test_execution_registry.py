"""Executions of workflows on SQLite and PostgreSQL: graphs, caps, endings, also at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import timedelta

import pytest
from task_examples import NOW, id_of, task
from task_registries import COMPLETED, FAILED, TestedRegistry

from anabranch.adapters.sql.database import Database
from anabranch.core.executions.drafts import ExecutionDraft
from anabranch.core.executions.showing import stored_filter
from anabranch.core.tasks.availability import availability
from anabranch.core.tasks.errors import TaskNotFound, TaskRefused
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.models import TaskExecution
from anabranch.core.tasks.outcomes import Outcome
from anabranch.registry import executions as registry
from anabranch.registry.running import Caps, Started, end, start_queued

AGENTS = availability({"ann": ["custom"]})
QUEUED, RUNNING, CANCELLED = ExecutionStatus.QUEUED, ExecutionStatus.RUNNING, ExecutionStatus.CANCELLED
A, B, C, D = (str(id_of(number)) for number in (1, 2, 3, 4))


@pytest.fixture
def tasks(database: Database) -> TestedRegistry:
    made = TestedRegistry(database)
    made.create(task(1), task(2), task(3), task(4))
    return made


def schedule(tasks: TestedRegistry, task_id: str, *dependencies: TaskExecution, **fields: object) -> TaskExecution:
    given = {"task_id": task_id, "dependencies": [str(each.id) for each in dependencies], **fields}
    draft = ExecutionDraft.model_validate(given)
    return tasks.write(lambda tx: registry.schedule(tx, draft))


def graph(tasks: TestedRegistry, nodes: Mapping[str, list[str]]) -> dict[str, TaskExecution]:
    drafts = {node: ExecutionDraft(task_id=node) for node in nodes}
    made = tasks.write(lambda tx: registry.schedule_graph(tx, nodes, drafts))
    return {str(each.task_id): each for each in made}


def now(tasks: TestedRegistry, execution: TaskExecution) -> TaskExecution:
    return tasks.read(lambda tx: registry.get(tx, str(execution.id)))


def start(tasks: TestedRegistry, cap: int = 10) -> Started:
    return tasks.write(lambda tx: start_queued(tx, AGENTS, Caps(10, cap)))


def finish(tasks: TestedRegistry, execution: TaskExecution, outcome: Outcome = COMPLETED) -> None:
    tasks.write(lambda tx: end(tx, {execution.request_id: outcome}))


def test_an_execution_is_read_as_it_was_scheduled(tasks: TestedRegistry) -> None:
    made = schedule(
        tasks,
        A,
        priority="critical",
        workflow_params={"inputs": {"deep": [1, None]}},
        scheduled_time=NOW + timedelta(hours=1),
        metadata={"k": "v"},
        timeout=None,
    )

    assert now(tasks, made) == made
    assert start(tasks).rows == []
    tasks.clock.time += 3600
    assert [row.execution_id for row in start(tasks).rows] == [made.id]


def test_a_graph_is_released_step_by_step(tasks: TestedRegistry) -> None:
    made = graph(tasks, {D: [B, C], B: [A], C: [A], A: []})

    started = [[str(each.task_id) for each in start(tasks).executions]]
    for done in ([A], [B, C], [D]):
        for each in done:
            finish(tasks, made[each])
        started.append([str(each.task_id) for each in start(tasks).executions])

    assert started == [[A], [B, C], [D], []]
    assert {now(tasks, each).status for each in made.values()} == {ExecutionStatus.COMPLETED}


def test_a_failure_cancels_the_whole_graph_behind_it(tasks: TestedRegistry) -> None:
    made = graph(tasks, {A: [], B: [A], C: [B], D: []})
    start(tasks)
    finish(tasks, made[A], FAILED)

    found = {node: now(tasks, each) for node, each in made.items()}
    assert (found[B].status, found[C].status, found[D].status) == (CANCELLED, CANCELLED, RUNNING)
    assert found[B].cancel_reason == f"Dependency execution {made[A].id} failed"
    assert found[C].cancel_reason == f"Dependency execution {made[B].id} was cancelled"


def test_a_refused_graph_leaves_nothing(tasks: TestedRegistry) -> None:
    for nodes in ({A: [B], B: [A]}, {A: [], "x": []}, {A: ["x"]}):
        with pytest.raises(TaskRefused):
            graph(tasks, nodes)

    assert tasks.read(lambda tx: tx.executions.list_executions(stored_filter(None, NOW))) == []


def test_executions_and_tasks_have_caps_of_their_own(tasks: TestedRegistry) -> None:
    made = [schedule(tasks, node) for node in (A, A, B)]
    assert [each.execution_number for each in made] == [1, 2, 1]
    tasks.execute(id_of(1))

    assert [row.document["name"] for row in start(tasks, cap=2).rows] == ["task 1", "task 1", "task 1"]
    assert start(tasks, cap=2).rows == []
    tasks.end_task(id_of(1))
    assert start(tasks, cap=2).rows == []
    finish(tasks, made[0])
    assert [each.id for each in start(tasks, cap=2).executions] == [made[2].id]


def test_a_cancelled_execution_keeps_its_slot_until_its_run_has_ended(tasks: TestedRegistry) -> None:
    first, second = schedule(tasks, A), schedule(tasks, B)
    start(tasks, cap=1)
    assert tasks.write(lambda tx: registry.cancel(tx, str(first.id), "no")) is None
    ended = tasks.write(lambda tx: registry.cancel(tx, str(first.id)))

    assert ended is not None
    assert ended.status == CANCELLED
    assert start(tasks, cap=1).rows == []
    finish(tasks, first)
    assert now(tasks, first).status == CANCELLED
    assert [each.id for each in start(tasks, cap=1).executions] == [second.id]


def test_executions_of_tasks_and_of_other_projects_do_not_exist_here(tasks: TestedRegistry) -> None:
    of_task, made = tasks.execute(id_of(1)), schedule(tasks, A)
    with pytest.raises(TaskNotFound):
        tasks.read(lambda tx: registry.get(tx, str(of_task.id)))
    with pytest.raises(TaskNotFound):
        tasks.read(lambda tx: registry.get(tx, str(made.id), "another"))
    with pytest.raises(TaskRefused, match=f"Task {A} does not exist"):
        tasks.write(lambda tx: registry.schedule(tx, ExecutionDraft(task_id=A), "another"))
    with pytest.raises(TaskRefused, match=r"Dependency execution .* does not exist"):
        schedule(tasks, A, of_task)


def test_callers_that_schedule_one_task_at_the_same_moment_get_an_execution_each(tasks: TestedRegistry) -> None:
    callers, rounds = 4, 10
    meet = threading.Barrier(callers)
    made: list[TaskExecution] = []
    failures: list[Exception] = []

    def schedule_all() -> None:
        try:
            for _ in range(rounds):
                meet.wait(60)
                made.append(schedule(tasks, A))
                made.extend(graph(tasks, {B: [A], A: []}).values())
        except Exception as error:  # noqa: BLE001 - raised by the test's own thread
            failures.append(error)
            meet.abort()

    threads = [threading.Thread(target=schedule_all) for _ in range(callers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert failures == []
    numbers = [each.execution_number for each in made if each.task_id == A]
    assert sorted(numbers) == list(range(1, 2 * callers * rounds + 1))


def test_dependencies_that_end_at_once_release_once(tasks: TestedRegistry) -> None:
    for _ in range(20):
        made = graph(tasks, {A: [], B: [], C: [A, B]})
        start(tasks)
        ending = [threading.Thread(target=finish, args=(tasks, made[node])) for node in (A, B)]
        for each in ending:
            each.start()
        for each in ending:
            each.join()
        assert now(tasks, made[C]).waiting == 0
        assert [each.id for each in start(tasks).executions] == [made[C].id]
        finish(tasks, made[C])
