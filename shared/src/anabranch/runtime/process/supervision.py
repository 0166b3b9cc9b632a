"""Supervised background tasks: a crash of one ends the process, instead of leaving it alive and idle.

The supervisor only notices crashes. `runtime.process.lifecycle` ends the process; health reports the error until
then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger("anabranch.process")


class Supervisor:
    """Starts the background tasks of a process and remembers the first crash."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._crashed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` as a task. It may return or be cancelled; if it raises, that is a crash."""
        task = asyncio.create_task(work, name=name)
        # asyncio has only weak references to tasks: without this one, a running task may be garbage-collected.
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def tasks(self) -> SupervisedTasks:
        """A group of supervised tasks for one component, which cancels them when it stops."""
        return SupervisedTasks(self)

    def report(self, error: BaseException, what: str) -> None:
        """Count an error that was caught elsewhere as a crash of `what`."""
        _log.critical("%s crashed; the process stops and ends with exit code 1", what, exc_info=error)
        if not self._crashed.done():
            self._crashed.set_result(error)

    @property
    def failure(self) -> BaseException | None:
        """The error of the first crash; None if no task has crashed."""
        return self._crashed.result() if self._crashed.done() and not self._crashed.cancelled() else None

    async def crashed(self) -> BaseException:
        """Wait for the first crash; returns its error."""
        # Shielded, because all waiters share the future: cancelling one must not cancel it.
        return await asyncio.shield(self._crashed)

    async def close(self) -> None:
        """Cancel all running tasks and wait until they have ended."""
        await _cancel(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(error, f"the task {task.get_name()!r}")


class SupervisedTasks:
    """The supervised tasks of one component. Made by `Supervisor.tasks`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """See `Supervisor.spawn`."""
        task = self._supervisor.spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def cancel(self) -> None:
        """Cancel all running tasks of the component and wait until they have ended."""
        await _cancel(self._tasks)


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
