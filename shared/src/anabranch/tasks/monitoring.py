"""The part of `TaskAPI` that reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from anabranch.core.errors import ServerUnavailable
from anabranch.core.tasks.graphs import GraphForm
from anabranch.registry import monitoring
from anabranch.registry.transaction import Transaction
from anabranch.tasks.ids import TaskId, required_id
from anabranch.tasks.measuring import TaskMetrics
from anabranch.tasks.models import utc_now
from anabranch.tasks.system import TaskSystem

if TYPE_CHECKING:
    from anabranch.core.tasks.availability import Availability

T = TypeVar("T")

HEALTH_SECONDS = 5.0
"""How long each check of `health_check` may take."""


class Monitoring:
    """The reports of `TaskAPI`."""

    system: TaskSystem
    metrics: TaskMetrics

    async def get_system_metrics(self) -> dict[str, Any]:
        """How much runs now, and how much ended in the last minutes (`TaskMetrics.sample_window_minutes`):
        `{concurrent_tasks, max_concurrent_tasks, queued_tasks, total_tasks, tasks_per_minute,
        average_duration_seconds, success_rate, error_rate, window_seconds}`. Rates are None if nothing ended."""
        window = timedelta(minutes=self.metrics.sample_window_minutes)
        return await self._report(lambda tx: monitoring.metrics(tx, self.system.max_running, window))

    async def get_performance_report(self) -> dict[str, Any]:
        """What the executions of the last hours (`TaskMetrics.metrics_retention_hours`) add up to: `summary`,
        `agent_metrics`, `type_metrics` and `priority_metrics` (counts, rates, durations, waits, retries, cost),
        `resource_metrics`, `slowest_tasks`, `most_failed_tasks`."""
        return await self._report(lambda tx: monitoring.report(tx, self._retention))

    async def get_queue_statistics(self) -> dict[str, Any]:
        """The number of tasks in each status (`pending_tasks`, `running_tasks`, ...), and what waits and why."""
        return await self._report(lambda tx: monitoring.queue(tx, self.system.max_running))

    async def get_dependency_graph(
        self, task_ids: Iterable[TaskId] | None = None, *, format: GraphForm = "json"
    ) -> Any:
        """Which tasks depend on which: `{nodes, edges}`, or the text of Graphviz (`dot`) or `mermaid`.

        Args:
            task_ids: only these; by default the 10,000 newest.

        Raises:
            TaskNotFound: a task does not exist.
        """
        ids = _ids(task_ids)
        return await self._report(lambda tx: monitoring.graph(tx, format, ids))

    async def get_execution_plan(self, task_ids: Iterable[TaskId] | None = None) -> dict[str, Any]:
        """In which order tasks run: `{total_tasks, execution_order, phases, critical_path, critical_path_seconds,
        forecast_seconds, unmeasured, max_concurrent_tasks}`. Forecasts are medians of measured durations of tasks
        with the same name, else with the same type; None if nothing was measured.

        Args:
            task_ids: only these; by default all that have not ended.

        Raises:
            TaskNotFound: a task does not exist.
            CircularDependencyError: tasks depend on each other in a circle.
        """
        ids = _ids(task_ids)
        return await self._report(lambda tx: monitoring.plan(tx, self.system.max_running, self._retention, ids))

    async def health_check(self) -> dict[str, Any]:
        """`{status, timestamp, checks}`. The status is `healthy`, `degraded` (some queued executions want what no
        live agent has), or `unhealthy` (the database, the log or the store does not respond)."""
        checks: dict[str, Any] = {}
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                steward = (await self.system.running()).steward
                await self._report(lambda tx: tx.tasks.counts(None))
                checks["database"] = "ok"
                agents = await steward.available()
                checks["store"] = "ok"
                checks["steward"] = steward.unhealthy_reason or "ok"
                missing = await self._wanted_in_vain(agents)
        except (ServerUnavailable, TimeoutError) as error:
            name = "store" if "database" in checks else "database"
            checks[name] = str(error) or f"it did not respond within {HEALTH_SECONDS:g} s"
            return _health("unhealthy", checks)
        checks["agents"] = f"{len(agents.served_by)} available" if not missing else "; ".join(missing)
        is_well = checks["steward"] == "ok"
        return _health("unhealthy" if not is_well else "degraded" if missing else "healthy", checks)

    @property
    def _retention(self) -> timedelta:
        return timedelta(hours=self.metrics.metrics_retention_hours)

    async def _wanted_in_vain(self, agents: Availability) -> list[str]:
        def work(tx: Transaction) -> set[str]:
            return tx.executions.wanted_in_vain(agents.wants, tx.seconds)

        return [f"no live agent for {each}" for each in sorted(await self._report(work))]

    async def _report(self, work: Callable[[Transaction], T]) -> T:
        await self.system.running()
        return await self.system.transactions.async_read(work)


def _ids(task_ids: Iterable[TaskId] | None) -> list[UUID] | None:
    return None if task_ids is None else [required_id(each) for each in task_ids]


def _health(status: str, checks: dict[str, Any]) -> dict[str, Any]:
    return {"status": status, "timestamp": utc_now().isoformat(), "checks": checks}
