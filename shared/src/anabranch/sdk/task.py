"""The argument of an agent: one member of a task in one attempt.

A worker creates a `Task` for each attempt, up to a hundred thousand per second. So it has only its own values,
refers to those that all members share, and computes the rest on access. It does no I/O: the worker provides
progress, cancellation and time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

import orjson

from anabranch.core.costs import NANOS, nanos_of, tokens_of
from anabranch.core.error_records import storable
from anabranch.core.expansion.members import member_name
from anabranch.sdk.own_values import UNCHANGEABLE, OwnValues, copy_of
from anabranch.sdk.task_log import Line, LogBook, TaskLog
from anabranch.sdk.task_scope import AttemptCallbacks, Flag, Post, Report, TaskScope

Json = Any

_EMPTY: Mapping[str, Json] = MappingProxyType({})


class Task:
    """One member of a task in one attempt. The worker creates it; agents read it.

    Attributes:
        name: the member's name: the task's own, or `<task>_<i+1>` for member i of an expansion.
        task_name: the task's declared name.
        group: name of the task's group.
        index: the member's index in its expansion, from 0; None without expansion.
        attempt: number of this attempt, from 1.
        run_id, session_id: the run and its session.
        message: the rendered `message_template`: text, or another JSON value if the template is one; None without
            a template.
        instructions: the rendered `shared_instructions`, likewise.
        inputs: the rendered `inputs`: any JSON value; None without `inputs`.
        tools: the names listed in the request.
        variables: the loop variables of this member.
        iteration: the numbers of the iterations of the loops around the task, from 0, that of the outermost loop
            first; empty outside of loops.
        deadline: time by which this attempt must end, in seconds since the epoch; None for no limit.
    """

    __slots__ = (
        "_context",
        "_log",
        "_name",
        "_shared",
        "_spent",
        "_stop",
        "_uncopied",
        "_variables",
        "attempt",
        "deadline",
        "index",
        "inputs",
        "instructions",
        "message",
        "thread_seconds",
        "variables",
    )

    thread_seconds: float
    """For the worker: processor time of the threads that ran a `def` agent and hooks. Not set before."""

    def __init__(
        self,
        *,
        name: str,
        group: str = "",
        run_id: str = "",
        session_id: str = "",
        task_name: str | None = None,
        index: int | None = None,
        attempt: int = 1,
        message: Json = None,
        instructions: Json = None,
        inputs: Json = None,
        tools: Sequence[str] = (),
        context: Mapping[str, Json] = _EMPTY,
        variables: Mapping[str, Json] = _EMPTY,
        deadline: float | None = None,
        stop: Flag | None = None,
        report: Report | None = None,
        post: Post | None = None,
        iteration: Sequence[int] = (),
    ) -> None:
        self._shared = TaskScope(
            task_name=name if task_name is None else task_name,
            group=group,
            run_id=run_id,
            session_id=session_id,
            tools=tools,
            context=context,
            listener=AttemptCallbacks(report, post),
            iteration=tuple(iteration),
        )
        self._name: str | None = name
        self.index = index
        self.attempt = attempt
        self.message = message
        self.instructions = instructions
        self.inputs = inputs
        self.variables = variables
        self.deadline = deadline
        self._stop = stop
        self._log: TaskLog | None = None
        self._context: Mapping[str, Json] | None = MappingProxyType(context)
        self._variables = variables
        self._uncopied: Mapping[str, Json] = _EMPTY

    @classmethod
    def of_member(
        cls,
        shared: TaskScope,
        index: int | None,
        attempt: int,
        message: Json,
        instructions: Json,
        inputs: Json,
        has_texts: bool,
        variables: Mapping[str, Json],
        deadline: float | None,
        stop: Flag,
    ) -> Task:
        """Create a task; for the worker. Twice as fast as `__init__`: positional, and shared values by reference.

        The task copies mutable values on first access, because members and attempts share them.

        Args:
            has_texts: message and instructions are text, so they need no copy.
        """
        task = cls.__new__(cls)
        task._shared = shared
        task._name = None
        task.index = index
        task.attempt = attempt
        if has_texts and type(inputs) in UNCHANGEABLE:
            task.message = message
            task.instructions = instructions
            task.inputs = inputs
        else:
            # Their slots stay empty, so that the first access calls `__getattr__`, which copies.
            task._uncopied = {"message": message, "instructions": instructions, "inputs": inputs}
        task._variables = variables
        task.deadline = deadline
        task._stop = stop
        task._log = None
        task._context = None
        return task

    def __getattr__(self, name: str) -> Any:
        """Copy a shared value on first access. Python calls `__getattr__` only while the slot is empty, so later
        accesses cost nothing."""
        if name == "variables":
            value = copy_of(self._variables)
        elif name in ("message", "instructions", "inputs"):
            value = copy_of(self._uncopied[name])
        elif name == "_spent":
            value = (0, 0)
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        setattr(self, name, value)
        return value

    @property
    def name(self) -> str:
        if self._name is None:
            task = self._shared.task_name
            self._name = task if self.index is None else member_name(task, self.index)
        return self._name

    @property
    def task_name(self) -> str:
        return self._shared.task_name

    @property
    def group(self) -> str:
        return self._shared.group

    @property
    def run_id(self) -> str:
        return self._shared.run_id

    @property
    def session_id(self) -> str:
        return self._shared.session_id

    @property
    def iteration(self) -> tuple[int, ...]:
        return self._shared.iteration

    @property
    def tools(self) -> Sequence[str]:
        return self._shared.tools

    @property
    def context(self) -> Mapping[str, Json]:
        """The values of the task's dependencies by key, as a read-only mapping; the values are this attempt's own
        copies."""
        if self._context is None:
            self._context = OwnValues(self._shared.context)
        return self._context

    @property
    def idempotency_key(self) -> str:
        """32 hexadecimal digits, the same in every attempt and delivery of this member and in no other; in a loop,
        another one in each iteration."""
        identity = orjson.dumps((self.run_id, self.group, self.task_name, self.index, *self.iteration))
        return hashlib.blake2b(identity, digest_size=16).hexdigest()

    @property
    def cancelled(self) -> bool:
        """True if this attempt should stop: the run was cancelled or timed out, or the attempt timed out. Callable
        from any thread."""
        return self._stop is not None and self._stop.is_set()

    @property
    def log(self) -> TaskLog:
        """A logger whose records carry the run, group, task, member and attempt. The run shows lines of INFO and
        above as `task.log` events: the first 100 of an attempt, up to 2,000 characters each."""
        if self._log is None:
            self._log = TaskLog(self._identity(), self._publish_line)
        return self._log

    def _publish_line(self, line: Line | None, book: LogBook) -> None:
        self._shared.listener.log(self.index or 0, self.attempt, line, book)

    def spend(self, *, usd: float | Decimal = 0, tokens: int = 0) -> None:
        """Report what this attempt has used, in addition to what it has reported before. It counts against the
        budgets of the task, its group and its run, whether the attempt completes or fails. Callable from any
        thread; does not wait.

        Args:
            usd: an amount in dollars, kept in billionths. A float counts as the decimal number that it is printed
                as.

        Raises:
            ValueError: an amount is negative or not finite.
            TypeError: `usd` is not a number, or `tokens` not an integer.
        """
        nanos, count = nanos_of(usd), tokens_of(tokens)
        known_nanos, known_count = self._spent
        self._spent: tuple[int, int] = (known_nanos + nanos, known_count + count)
        self._shared.listener.spend(self.index or 0, self.attempt, nanos, count)

    @property
    def spent(self) -> tuple[Decimal, int]:
        """What this attempt has reported with `spend` so far: dollars, and tokens."""
        nanos, count = self._spent
        return Decimal(nanos) / NANOS, count

    async def progress(self, fraction: float, note: str = "") -> None:
        """Report the progress of this attempt, from 0 to 1. Values outside are clamped.

        Raises:
            ValueError: `fraction` is NaN.
        """
        await self._shared.listener.progress(self.index or 0, _share(fraction), storable(str(note)))

    def report_progress(self, fraction: float, note: str = "") -> None:
        """As `progress`, for `def` agents, which cannot await. Callable from any thread; does not wait.

        Raises:
            ValueError: `fraction` is NaN.
        """
        self._shared.listener.post(self.index or 0, _share(fraction), storable(str(note)))

    async def publish(
        self,
        name: str,
        key: str | float = "",
        data: Json = None,
        *,
        id: str | None = None,
        ttl: float | str | None = None,
        deliver: Literal["all", "one"] | None = None,
    ) -> str:
        """Publish an event in the project of the run, for tasks that wait for its name and key. Returns its id.

        Args:
            id: a repeated id is the same event. By default that of the member, so that a further attempt or
                delivery of it publishes the event once. Give each an id to publish several of one name and key.
            ttl: how long it is kept for tasks that wait later, in seconds or as "15m"; by default 24 h.
            deliver: with "one", one run gets it, the one that has waited longest.

        Raises:
            RequestRefused: the name, the key or the time is invalid.
            ServerUnavailable: the event could not be published.
            RuntimeError: the task was built in a test, without a system.
        """
        scope, event_id = self._shared, id or self.idempotency_key
        if scope.events is None:
            raise RuntimeError("this task belongs to no system that could publish an event")
        await scope.events.publish(scope.project, name, key, data, event_id, ttl=ttl, deliver=deliver)
        return event_id

    def _identity(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "run": self.run_id,
            "group": self.group,
            "task": self.task_name,
            "member": self.name,
            "attempt": self.attempt,
        }
        if self.iteration:
            found["iteration"] = list(self.iteration)
        return found

    def __repr__(self) -> str:
        return f"<Task {self.group}/{self.name} attempt {self.attempt} of run {self.run_id}>"


def _share(fraction: float) -> float:
    if fraction != fraction:  # NaN is the one value that differs from itself
        raise ValueError("progress must be a number from 0 to 1, not NaN")
    return min(1.0, max(0.0, float(fraction)))
