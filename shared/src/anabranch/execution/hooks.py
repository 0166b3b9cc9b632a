"""Hooks: functions of this process that are called before and after executions."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from anabranch.core.executions.showing import document
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.models import TaskExecution as StoredExecution
from anabranch.core.tasks.outcomes import Outcome
from anabranch.execution.models import TaskExecution
from anabranch.tasks.models import utc_now

Hook = Callable[[TaskExecution], Any]
"""A `def`, which is called in a thread, or an `async def`."""

_log = logging.getLogger("anabranch.execution")


class Hooks:
    """The hooks of an engine, in the order in which they were added."""

    def __init__(self) -> None:
        self.before: list[Hook] = []
        self.after: list[Hook] = []

    async def before_start(self, started: Sequence[StoredExecution]) -> Mapping[str, Outcome]:
        """Call the hooks before executions start. Returns, by request id, the failure of those whose hook raised.
        Executions are handled side by side, the hooks of one after another."""
        if not self.before:
            return {}
        outcomes = await asyncio.gather(*map(self._checked, started))
        ids = [each.request_id for each in started]
        return {id: outcome for id, outcome in zip(ids, outcomes, strict=True) if outcome is not None}

    async def _checked(self, execution: StoredExecution) -> Outcome | None:
        shown = public(execution)
        for hook in self.before:
            try:
                await _call(hook, shown)
            except Exception as error:  # noqa: BLE001 - a hook of the user may raise anything
                _log.warning("execution %s does not start, because a hook failed: %r", execution.id, error)
                return Outcome(ExecutionStatus.FAILED, error=_record_of(error))
        return None

    async def after_end(self, execution: StoredExecution) -> None:
        """Call the hooks after an execution. One that raises is logged, and the others are called."""
        shown = public(execution)
        for hook in self.after:
            try:
                await _call(hook, shown)
            except Exception:  # noqa: BLE001 - a hook of the user may raise anything
                _log.exception("a hook after execution %s failed; the execution keeps its status", execution.id)


def checked(hook: Hook) -> Hook:
    """The hook. Raises TypeError: it cannot be called."""
    if not callable(hook):
        raise TypeError(f"a hook is a function of a TaskExecution, not {hook!r:.100}")
    return hook


def public(execution: StoredExecution) -> TaskExecution:
    """The execution as hooks get it."""
    return TaskExecution.of_document(document(execution, None, utc_now()))


async def _call(hook: Hook, execution: TaskExecution) -> None:
    is_async = inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004
    result = hook(execution) if is_async else await asyncio.to_thread(hook, execution)
    if isinstance(result, Awaitable):
        await result


def _record_of(error: Exception) -> dict[str, Any]:
    return {
        "error_type": type(error).__name__,
        "message": f"a hook before the execution failed: {error}",
        "traceback": "".join(traceback.format_exception(error)),
    }
