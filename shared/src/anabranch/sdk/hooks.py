"""Hooks: functions in agents' modules that run before and after each attempt of every agent of the worker.

As with `@agent`, the decorators only mark a function. The registry of a worker collects the hooks of the modules
that it loads, in the order in which they were defined.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from types import MethodType, ModuleType
from typing import Any, Final, Literal, TypeVar

from anabranch.sdk.discovery import is_async, is_generator, place_of
from anabranch.sdk.marks import made_by, note_made

F = TypeVar("F", bound=Callable[..., Any])

HOOK: Final = "__anabranch_hooks__"
MADE_HOOKS: Final = "__anabranch_made_hooks__"
_numbers = count()

When = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class ExecutionOutcome:
    """How an attempt ended, for `@after_execution`.

    Attributes:
        status: `cancelled` if the attempt was stopped: its run was cancelled, its time was over, or its worker
            stops.
        result: what the agent returned; None unless the attempt completed.
        error: what the agent, or a hook before it, raised; None if the attempt completed.
    """

    status: Literal["completed", "failed", "cancelled"]
    result: Any = None
    error: BaseException | None = None

    @classmethod
    def of_error(cls, error: BaseException) -> ExecutionOutcome:
        """The outcome of an attempt that raised."""
        return cls("cancelled" if isinstance(error, asyncio.CancelledError) else "failed", error=error)


@dataclass(frozen=True, slots=True)
class HookMark:
    """One decoration of a hook. `number` is its place among all decorations of the process."""

    when: When
    number: int


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook of a registry."""

    when: When
    call: Callable[..., Any]
    is_async: bool
    takes_outcome: bool
    place: str


def before_execution(function: F) -> F:
    """Mark a function that is called with the `Task` before each attempt of any agent of its worker.

    An `async def` runs on the worker's event loop; a `def` in the thread of a `def` agent, or in a thread of its
    own before an `async def` agent. If it raises, the attempt fails with that error, and the agent is not called.

    Raises:
        TypeError: it cannot be called with one argument.
    """
    return _marked(function, "before")


def after_execution(function: F) -> F:
    """Mark a function that is called after each attempt of any agent of its worker, however it ended: with the
    `Task`, and with an `ExecutionOutcome` if it takes two arguments.

    If it raises, the error is logged, and the attempt keeps its outcome. See `before_execution` for threads.

    Raises:
        TypeError: it can be called neither with one argument nor with two.
    """
    return _marked(function, "after")


def _marked(function: F, when: When) -> F:
    if not callable(function) or inspect.isclass(function):
        raise TypeError(f"@{when}_execution marks a function, and {function!r} is none")
    _takes_outcome(function, when)
    holder: Any = function
    if type(holder) is MethodType:
        holder = holder.__func__
    known = getattr(holder, HOOK, ())
    setattr(holder, HOOK, (*known, HookMark(when, next(_numbers))))
    note_made(MADE_HOOKS, function)
    return function


def marks_of_hook(value: object) -> tuple[HookMark, ...]:
    """The marks of a hook; empty for any other object."""
    holder = value.__func__ if type(value) is MethodType else value
    try:
        found = inspect.getattr_static(holder, HOOK, ())
    except Exception:  # noqa: BLE001  # a metaclass may raise anything
        return ()
    return found if type(found) is tuple and all(type(each) is HookMark for each in found) else ()


def hooks_in(module: ModuleType) -> list[Hook]:
    """The hooks in the variables of a module, and those that were marked while it was executed, in the order in
    which they were marked."""
    found = {id(value): value for value in (*vars(module).values(), *made_by(MADE_HOOKS, module))}
    return hooks_of(*found.values())


def hooks_of(*values: Any) -> list[Hook]:
    """The hooks that these objects are, in the order in which they were marked."""
    marked: dict[int, tuple[HookMark, Any]] = {}
    for value in values:
        for mark in () if issubclass(type(value), type) else marks_of_hook(value):
            # A decorator above, with `functools.wraps`, copies the mark: its function comes first, and is called.
            marked.setdefault(mark.number, (mark, value))
    return [
        Hook(mark.when, value, is_async(value), _takes_outcome(value, mark.when), place_of(value))
        for _, (mark, value) in sorted(marked.items())
    ]


def _takes_outcome(function: Callable[..., Any], when: When) -> bool:
    """True if a hook takes two arguments. Raises TypeError if it can be called with neither one nor two."""
    if is_generator(function):
        raise TypeError(f"the hook at {place_of(function)} is a generator, which nobody would run")
    if when == "after" and _can_take(function, 2):
        return True
    if not _can_take(function, 1):
        wanted = "one argument, the task" if when == "before" else "the task, or the task and its outcome"
        raise TypeError(f"the hook at {place_of(function)} must take {wanted}")
    return False


def _can_take(function: Callable[..., Any], number: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * number)
    except TypeError:
        return False
    except ValueError:  # a callable in C without a signature: a wrong one fails at its first call
        return number == 1
    return True


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of a registry, in their order."""

    before: tuple[Hook, ...] = ()
    after: tuple[Hook, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.before or self.after)

    @property
    def are_sync(self) -> bool:
        """True if no hook has to run on the event loop."""
        return not any(hook.is_async for hook in (*self.before, *self.after))

    def with_more(self, found: list[Hook]) -> Hooks:
        """These hooks, and others after them; a hook that is known is not added again."""
        new = [hook for hook in found if hook not in self.before and hook not in self.after]
        return Hooks(
            (*self.before, *(hook for hook in new if hook.when == "before")),
            (*self.after, *(hook for hook in new if hook.when == "after")),
        )


NO_HOOKS: Final = Hooks()
