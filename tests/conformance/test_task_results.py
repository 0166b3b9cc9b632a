"""Results of tasks on SQLite and PostgreSQL: of each type of JSON, as they were given."""

from __future__ import annotations

import pytest
from task_examples import id_of, task
from task_registries import TestedRegistry

from anabranch.adapters.sql.database import Database
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.outcomes import Outcome

ONE = id_of(1)


@pytest.fixture
def tasks(database: Database) -> TestedRegistry:
    return TestedRegistry(database)


@pytest.mark.parametrize("result", [1, 0, 1.5, 2.0, -3, 2**60 + 1, True, False, "1", "", [], {}, None], ids=repr)
def test_a_result_is_read_as_it_was_written(tasks: TestedRegistry, result: object) -> None:
    tasks.create(task(1), task(2, (1,)))
    tasks.execute(ONE)
    tasks.start()
    tasks.end_task(ONE, Outcome(ExecutionStatus.COMPLETED, result=result))

    for found in (tasks.task(ONE).result, tasks.execution(ONE).result):
        assert (found, type(found)) == (result, type(result))
