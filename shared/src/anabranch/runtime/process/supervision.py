"""Background tasks whose crash ends the process, instead of leaving it alive and idle.

Only notices; what to do about a crash is the process's business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger("anabranch.process")


class Supervisor:
    """Starts the tasks of a service and remembers the first that crashed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._crashed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` as a task. It may return or be cancelled; an exception out of it is a crash."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def report(self, error: BaseException, what: str) -> None:
        """Count an error that was caught elsewhere as a crash of `what`."""
        _log.critical("%s crashed", what, exc_info=error)
        if not self._crashed.done():
            self._crashed.set_result(error)

    async def crashed(self) -> BaseException:
        """Wait for the first crash; returns its error."""
        return await asyncio.shield(self._crashed)

    async def close(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(error, f"the task {task.get_name()!r}")
