"""One transaction of the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from anabranch.ports import Clock, Ids

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from anabranch.adapters.sql.database import Database
    from anabranch.adapters.sql.execution_rows import ExecutionRows
    from anabranch.adapters.sql.task_rows import TaskRows

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Transaction:
    """The rows, the present time and new ids, for functions that run within one transaction."""

    tasks: TaskRows
    executions: ExecutionRows
    now: datetime
    ids: Ids

    @property
    def seconds(self) -> float:
        """The present time in seconds since the epoch."""
        return self.now.timestamp()

    def new_id(self) -> UUID:
        """A new id; later ones are greater."""
        return UUID(self.ids.run_scoped())


class Transactions:
    """Runs functions within transactions of a database. Each may be called again, and blocks its thread."""

    def __init__(self, database: Database, clock: Clock, ids: Ids) -> None:
        self.database = database
        self.clock = clock
        self.ids = ids

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction; see `Database.write`."""
        return self.database.write(lambda connection: work(self._begun(connection)))

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction that only reads."""
        return self.database.read(lambda connection: work(self._begun(connection)))

    async def async_write(self, work: Callable[[Transaction], T]) -> T:
        """`write` in a thread."""
        return await self.database.async_write(lambda connection: work(self._begun(connection)))

    async def async_read(self, work: Callable[[Transaction], T]) -> T:
        """`read` in a thread."""
        return await self.database.async_read(lambda connection: work(self._begun(connection)))

    def _begun(self, connection: Connection) -> Transaction:
        # Imported on use: a process without a database does not need its library.
        from anabranch.adapters.sql.execution_rows import ExecutionRows
        from anabranch.adapters.sql.task_rows import TaskRows

        now = datetime.fromtimestamp(self.clock.now(), UTC)
        return Transaction(TaskRows(connection), ExecutionRows(connection), now, self.ids)
