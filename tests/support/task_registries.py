"""A registry over a database, with a clock that tests set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from task_examples import NOW

from anabranch.adapters.sql.database import Database
from anabranch.core.tasks.availability import Availability, availability
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.models import Task, TaskExecution
from anabranch.core.tasks.outbox import OutboxRow
from anabranch.core.tasks.outcomes import Outcome
from anabranch.registry import tasks as registry
from anabranch.registry.running import Caps, end, start_queued
from anabranch.registry.transaction import Transaction, Transactions

T = TypeVar("T")

AGENTS = availability({"ann": ["custom", "testing"], "bob": ["custom"]})
COMPLETED = Outcome(ExecutionStatus.COMPLETED, result={"n": 1})
FAILED = Outcome(ExecutionStatus.FAILED, error={"error_type": "OSError", "message": "no disk"})


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = NOW.timestamp()

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class CountedIds:
    """Ids that count up."""

    def __init__(self) -> None:
        self._count = 1 << 64

    def run_scoped(self) -> str:
        self._count += 1
        return str(UUID(int=self._count))

    def incarnation(self) -> str:
        return "0" * 10


class TestedRegistry:
    """The operations of the registry, each in a transaction of its own."""

    __test__ = False

    def __init__(self, database: Database) -> None:
        self.clock = SetClock()
        self.transactions = Transactions(database, self.clock, CountedIds())

    def write(self, work: Callable[[Transaction], T]) -> T:
        return self.transactions.write(work)

    def read(self, work: Callable[[Transaction], T]) -> T:
        return self.transactions.read(work)

    def create(self, *tasks: Task) -> list[Task]:
        return self.write(lambda tx: registry.create(tx, tasks))

    def task(self, id: UUID) -> Task:
        return self.read(lambda tx: registry.get(tx, id))

    def execute(self, id: UUID, agent: str | None = None) -> TaskExecution:
        return self.write(lambda tx: registry.execute(tx, id, agent))

    def cancel(self, id: UUID, reason: str | None = None) -> bool:
        return self.write(lambda tx: registry.cancel(tx, id, reason))

    def retry(self, id: UUID) -> TaskExecution:
        return self.write(lambda tx: registry.retry(tx, id))

    def change(self, id: UUID, **changes: Any) -> Task:
        return self.write(lambda tx: registry.change(tx, id, changes))

    def start(self, cap: int = 100, agents: Availability = AGENTS) -> list[OutboxRow]:
        """Start what may start; returns the requests."""
        return self.write(lambda tx: start_queued(tx, agents, Caps(cap, cap)).rows)

    def started(self, cap: int = 100, agents: Availability = AGENTS) -> list[str]:
        """Start what may start; returns the names of the tasks."""
        return [row.document["name"] for row in self.start(cap, agents)]

    def end(self, outcomes: Mapping[str, Outcome]) -> list[UUID]:
        return self.write(lambda tx: end(tx, outcomes))

    def end_task(self, id: UUID, outcome: Outcome = COMPLETED) -> list[UUID]:
        """End the last execution of a task."""
        return self.end({self.execution(id).request_id: outcome})

    def execution(self, id: UUID) -> TaskExecution:
        """The last execution of a task."""
        return self.read(lambda tx: tx.executions.last_of([id]))[str(id)]

    def advance(self, seconds: float) -> datetime:
        """Let time pass; returns the new time."""
        self.clock.time += seconds
        return datetime.fromtimestamp(self.clock.time, UTC)
