"""Functions that are agents of this process: `executor(task, context)`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from anabranch.core.errors import GiveUp
from anabranch.sdk import task as sdk
from anabranch.sdk.agents import AgentDeclaration
from anabranch.sdk.discovery import place_of
from anabranch.tasks.models import Task

Executor = Callable[..., Any]


def declaration_of(name: str, executor: Executor, capabilities: Iterable[str]) -> AgentDeclaration:
    """The agent that calls `executor` with the task and its context, or with the task only.

    Raises:
        TypeError: it takes neither one nor two arguments.
    """
    takes = _arguments_of(executor)

    def call(attempt: sdk.Task) -> Any:
        task, context = arguments_of(attempt)
        return executor(task, context) if takes == 2 else executor(task)

    async def call_async(attempt: sdk.Task) -> Any:
        found: Awaitable[Any] = call(attempt)
        return await found

    is_async = inspect.iscoroutinefunction(executor) or inspect.iscoroutinefunction(
        getattr(executor, "__call__", None)  # noqa: B004 - an instance may have an `async def __call__`
    )
    return AgentDeclaration(
        name=name,
        handler=call_async if is_async else call,
        is_async=is_async,
        place=place_of(executor),
        capabilities=tuple(sorted(set(map(str, capabilities)))),
    )


def arguments_of(attempt: sdk.Task) -> tuple[Task, dict[str, Any]]:
    """The task and its context. The context has the fields of the execution context, `execution_id`, `attempt` and
    as `agent_task` the `anabranch.Task`, with which an agent logs, spends and notices a cancellation."""
    inputs = attempt.inputs if isinstance(attempt.inputs, dict) else {}
    document = dict(inputs.get("task") or {})
    context = {name: value for name, value in inputs.items() if name != "task"}
    context |= {
        "execution_id": document.pop("execution_id", None),
        "execution_number": document.pop("execution_number", 1),
        "attempt": attempt.attempt,
        "agent_task": attempt,
    }
    fields = {name: value for name, value in document.items() if name in Task.model_fields}
    if "name" not in fields:
        raise GiveUp(f"the inputs of {attempt.name!r} have no task: start it with `anabranch.tasks`")
    execution_context = {name: value for name, value in inputs.items() if name != "task"}
    return Task.model_validate({**fields, "execution_context": execution_context}), context


def _arguments_of(executor: Executor) -> int:
    signature = inspect.signature(executor)
    for count in (2, 1):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    raise TypeError(f"{place_of(executor)} must take the task and its context, or the task only")
