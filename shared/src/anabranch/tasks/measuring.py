"""`TaskLogger` and `TaskMetrics`: log lines about tasks, and what executions add up to."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from anabranch.core.tasks.models import Task, TaskExecution
from anabranch.core.tasks.reports import performance_report
from anabranch.tasks.models import utc_now

LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"


class TaskLogger:
    """Logs about tasks, to a logger of the standard library.

    Args:
        log_level: lines below are left out.
    """

    def __init__(self, logger_name: str = "anabranch.tasks", log_level: int = logging.INFO) -> None:
        self.logger = logging.getLogger(logger_name)
        self.logger.setLevel(log_level)

    def add_file_handler(self, path: str | Path, level: int | None = None) -> logging.Handler:
        """Also write lines to a file, whose folder is made if there is none. Close the handler to stop.

        Raises:
            OSError: the file cannot be written.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter(LINE))
        if level is not None:
            handler.setLevel(level)
        self.logger.addHandler(handler)
        return handler

    def log_debug(self, message: str, **fields: Any) -> None:
        """Log for developers."""
        self._log(logging.DEBUG, message, fields)

    def log_info(self, message: str, **fields: Any) -> None:
        """Log what happened."""
        self._log(logging.INFO, message, fields)

    def log_warning(self, message: str, **fields: Any) -> None:
        """Log what may need attention."""
        self._log(logging.WARNING, message, fields)

    def log_error(self, message: str, error: BaseException | None = None, **fields: Any) -> None:
        """Log an error, with the traceback of `error` if it is given."""
        self._log(logging.ERROR, message, fields, error)

    def log_task(self, task: Task, message: str, **fields: Any) -> None:
        """Log about a task."""
        shown = {"task_id": task.id, "task": task.name, "status": task.status, **fields}
        self._log(logging.INFO, message, shown)

    def log_execution(self, execution: TaskExecution, message: str, **fields: Any) -> None:
        """Log about an execution: as an error if it failed."""
        shown = {"task_id": execution.task_id, "execution_id": execution.id, "status": execution.status, **fields}
        if execution.error_message is not None:
            shown["error"] = execution.error_message
        self._log(logging.INFO if execution.error_message is None else logging.ERROR, message, shown)

    def _log(self, level: int, message: str, fields: dict[str, Any], error: BaseException | None = None) -> None:
        shown = "".join(f" {name}={value}" for name, value in fields.items())
        self.logger.log(level, "%s%s", message, shown, exc_info=error)


class TaskMetrics:
    """Over which time `TaskAPI` reports. Also adds up executions that are given to it.

    Args:
        metrics_retention_hours: how far reports look back.
        sample_window_minutes: over which time rates are measured.

    Raises:
        ValueError: a time is not positive.
    """

    def __init__(self, metrics_retention_hours: float = 24, sample_window_minutes: float = 5) -> None:
        if metrics_retention_hours <= 0 or sample_window_minutes <= 0:
            raise ValueError("`metrics_retention_hours` and `sample_window_minutes` must be greater than 0")
        self.metrics_retention_hours = metrics_retention_hours
        self.sample_window_minutes = sample_window_minutes
        self._executions: dict[Any, TaskExecution] = {}
        self._tasks: dict[str, Task] = {}

    def record(self, execution: TaskExecution, task: Task | None = None) -> None:
        """Add an execution, in place of an earlier state of it."""
        self._executions[execution.id] = execution
        if task is not None:
            self._tasks[str(task.id)] = task
        self._forget_old()

    def record_all(self, executions: Iterable[TaskExecution]) -> None:
        """Add executions, such as `TaskAPI.list_executions` returns."""
        for each in executions:
            self.record(each)

    def get_performance_report(self) -> dict[str, Any]:
        """What the recorded executions add up to; the form of `TaskAPI.get_performance_report`."""
        self._forget_old()
        return performance_report(list(self._executions.values()), self._tasks, utc_now())

    def _forget_old(self) -> None:
        oldest = utc_now() - timedelta(hours=self.metrics_retention_hours)
        old = [each.id for each in self._executions.values() if (each.completed_at or each.created_at) < oldest]
        for id in old:
            del self._executions[id]
