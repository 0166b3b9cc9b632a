"""The task registry of the gateway: its database, and the steward that runs tasks."""

from __future__ import annotations

import asyncio

from anabranch.core.errors import ServerUnavailable
from anabranch.registry.execution_service import ExecutionService
from anabranch.registry.service import TaskService
from anabranch.registry.steward import Steward
from anabranch.registry.transaction import Transactions
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.until_available import until_available
from anabranch.sdk.client import Client
from anabranch_gateway.http.problems import Refusal

MAX_DELAY = 5.0
"""Seconds between two attempts to open the database, at most."""
NO_DATABASE = "this gateway has no database of tasks: set ANABRANCH_DATABASE_URL, and install the extra `history`"


class TaskRegistry:
    """Serves the task registry. The gateway starts without the database: tasks answer 503 until it responds.

    Args:
        transactions: of the database, which is not connected yet; None: this gateway has none, and tasks answer
            501.
        owns_database: True if `stop` closes it.
        max_running: executions of tasks that run at once, of all stewards together.
        max_executions: the same for executions without a task.
    """

    def __init__(
        self,
        client: Client,
        transactions: Transactions | None,
        supervisor: Supervisor,
        *,
        owns_database: bool,
        max_running: int,
        max_executions: int,
    ) -> None:
        self._client = client
        self._transactions = transactions
        self._owns_database = owns_database
        self._supervisor = supervisor
        self._max_running = max_running
        self._max_executions = max_executions
        self._steward: Steward | None = None
        self._service: TaskService | None = None
        self._executions: ExecutionService | None = None
        self._failure: str | None = None
        self._opening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Open the database in the background, then start the steward. Call it when the client is open."""
        if self._transactions is not None:
            work = self._open(self._transactions)
            self._opening = self._supervisor.spawn(work, "tasks: opening the database")

    async def stop(self) -> None:
        """Stop the steward; that of another gateway, or the next one, goes on."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._steward is not None:
            await self._steward.stop()
        if self._transactions is not None and self._owns_database:
            await asyncio.to_thread(self._transactions.database.close)

    @property
    def service(self) -> TaskService:
        """The tasks.

        Raises:
            Refusal: 501, this gateway has no database; 503, the database has not responded yet.
        """
        if self._transactions is None:
            raise Refusal(501, "not_supported", NO_DATABASE)
        if self._service is None:
            reason = self._failure or "it is being opened"
            raise ServerUnavailable("the database of tasks", self._transactions.database.address, reason)
        return self._service

    @property
    def executions(self) -> ExecutionService:
        """The executions of tasks as workflows. Raises Refusal, as `service`."""
        _ = self.service
        assert self._executions is not None
        return self._executions

    @property
    def unhealthy_reason(self) -> str | None:
        """Why no task starts or ends at the moment; None if they do, or if this gateway runs none."""
        if self._transactions is None:
            return None
        return self._failure if self._steward is None else self._steward.unhealthy_reason

    async def _open(self, transactions: Transactions) -> None:
        await until_available(
            lambda: asyncio.to_thread(transactions.database.upgrade),
            "open the database of tasks",
            max_delay=MAX_DELAY,
            on_failure=self._set_failure,
        )
        steward = Steward(
            transactions, self._client.links, self._supervisor, self._max_running, self._max_executions
        )
        self._steward = steward
        await until_available(steward.start, "start the steward of tasks", on_failure=self._set_failure)
        self._executions = ExecutionService(transactions, self._client.links, self._max_executions, steward.wake)
        self._service = TaskService(transactions, self._client, self._max_running, steward.wake)
        self._failure = None

    def _set_failure(self, error: Exception) -> None:
        self._failure = str(error)
