"""Calls the hooks of a worker around each attempt, whatever executor makes the attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from inspect import isawaitable
from typing import Any

from anabranch.sdk.hooks import ExecutionOutcome, Hook, Hooks
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.executors.coroutine_host import CoroutineHost, Raised
from anabranch_taskgroup.worker.executors.in_process import call_in_thread
from anabranch_taskgroup.worker.executors.protocol import MemberExecutor


class HookedExecutor:
    """Makes attempts with another executor, and calls hooks before and after each. A `MemberExecutor`.

    Args:
        threads: where `def` hooks run.
    """

    def __init__(self, executor: MemberExecutor, hooks: Hooks, threads: Executor) -> None:
        self._executor = executor
        self._hooks = hooks
        self._threads = threads

    async def run(self, member: Task) -> Any:
        """See `MemberExecutor.run`."""
        try:
            for hook in self._hooks.before:
                await self._call(hook, member)
            returned = await self._executor.run(member)
        except GeneratorExit:  # the coroutine is closed, and may wait for nothing any more
            raise
        except BaseException as error:
            await self._after(member, ExecutionOutcome.of_error(error))
            raise
        await self._after(member, _outcome_of(returned))
        return returned

    async def cancel(self, attempt: CoroutineHost) -> bool:
        """See `MemberExecutor.cancel`."""
        return await self._executor.cancel(attempt)

    def leave(self) -> None:
        """See `MemberExecutor.leave`."""
        self._executor.leave()

    async def _after(self, member: Task, outcome: ExecutionOutcome) -> None:
        for hook in self._hooks.after:
            try:
                await self._call(hook, member, outcome)
            except (Exception, SystemExit) as error:  # noqa: BLE001  # logged, whatever it is
                log_failed(hook, member, error)

    async def _call(self, hook: Hook, member: Task, *outcome: ExecutionOutcome) -> None:
        arguments = (member, *outcome) if hook.takes_outcome else (member,)
        if hook.is_async:
            await hook.call(*arguments)
            return
        returned = await call_in_thread(self._threads, lambda _: hook.call(*arguments), member)
        if isinstance(returned, Raised):
            raise returned.error


def in_one_thread(hooks: Hooks, handler: Callable[[Task], Any]) -> Callable[[Task], Any]:
    """A `def` agent with its `def` hooks around it, for one call in one thread: what a hook sets there (a variable
    of the thread or of the context) is there for the agent."""

    def attempt(member: Task) -> Any:
        try:
            for hook in hooks.before:
                hook.call(member)
            returned = handler(member)
        except BaseException as error:
            _call_after(hooks, member, ExecutionOutcome.of_error(error))
            raise
        if isawaitable(returned):  # the wrapper of a decorator around an `async def`
            return _finish(hooks, member, returned)
        _call_after(hooks, member, _outcome_of(returned))
        return returned

    return attempt


async def _finish(hooks: Hooks, member: Task, returned: Awaitable[Any]) -> Any:
    try:
        result = await returned
    except GeneratorExit:
        raise
    except BaseException as error:
        _call_after(hooks, member, ExecutionOutcome.of_error(error))
        raise
    _call_after(hooks, member, _outcome_of(result))
    return result


def _call_after(hooks: Hooks, member: Task, outcome: ExecutionOutcome) -> None:
    for hook in hooks.after:
        try:
            hook.call(*((member, outcome) if hook.takes_outcome else (member,)))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # logged, whatever it is
            log_failed(hook, member, error)


def _outcome_of(returned: Any) -> ExecutionOutcome:
    if isinstance(returned, Raised):
        return ExecutionOutcome.of_error(returned.error)
    return ExecutionOutcome("completed", returned)


def log_failed(hook: Hook, member: Task, error: BaseException) -> None:
    """Log the error of a hook after an attempt, in the worker's log and in the run."""
    member.log.error(
        "the after_execution hook %s failed; the attempt keeps its outcome", hook.place, exc_info=error
    )
