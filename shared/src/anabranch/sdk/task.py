"""What an agent gets: one member of one task, in one attempt.

A `Task` is made for each attempt, up to a hundred thousand times a second, so it only holds what is its own,
refers to what the members of its task share, and works out the rest when asked. It does no I/O of its own:
progress, cancellation and time come from outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import orjson

from anabranch.core.error_records import storable
from anabranch.core.expansion.members import member_name
from anabranch.sdk.own_values import UNCHANGEABLE, OwnValues, copy_of
from anabranch.sdk.task_log import Line, LogBook, TaskLog

Json = Any
Report = Callable[[float, str], Awaitable[None]]
"""Takes a fraction of 0 to 1 and a note."""
Post = Callable[[float, str], None]
"""The same from any thread, without waiting."""

_EMPTY: Mapping[str, Json] = MappingProxyType({})


class Flag(Protocol):
    """What says that an attempt is to stop: a `threading.Event`, or anything with its `is_set`."""

    def is_set(self) -> bool: ...


class ProgressListener(Protocol):
    """Is told how far members are and what they log, each by its index; 0 where there is no expansion.

    `post` and `log` may be called from any thread. A `line` of None says that lines of the attempt are left out
    from here on; its book counts them.
    """

    async def progress(self, index: int, fraction: float, note: str) -> None: ...

    def post(self, index: int, fraction: float, note: str) -> None: ...

    def log(self, index: int, attempt: int, line: Line | None, book: LogBook) -> None: ...


@dataclass(frozen=True, slots=True)
class AttemptCallbacks:
    """What one attempt's callers are: the callables of `Task(report=..., post=...)`."""

    report: Report | None
    post_: Post | None

    async def progress(self, index: int, fraction: float, note: str) -> None:
        if self.report is not None:
            await self.report(fraction, note)

    def post(self, index: int, fraction: float, note: str) -> None:
        if self.post_ is not None:
            self.post_(fraction, note)

    def log(self, index: int, attempt: int, line: Line | None, book: LogBook) -> None:
        """Nobody shows it; the log record is written all the same."""


@dataclass(frozen=True, slots=True)
class TaskScope:
    """What all members of a task have in common. `listener` is told of their progress."""

    task_name: str
    group: str
    run_id: str
    session_id: str
    tools: Sequence[str]
    context: Mapping[str, Json]
    listener: ProgressListener


class Task:
    """One member of a task, as its agent sees it. Made by the worker; agents only read it.

    Attributes:
        name: the member's name: the task's own, or `<task>_<i+1>` for member i of an expansion.
        task_name: the task's declared name.
        group: name of the task's group.
        index: the member's index in its expansion, from 0; None without expansion.
        attempt: number of this attempt, from 1.
        run_id, session_id: the run and its session.
        message: the rendered `message_template`: text, or whatever JSON it was written as; None without one.
        instructions: the rendered `shared_instructions`, alike.
        inputs: the rendered `inputs`: any JSON value, None where there are none.
        tools: the names listed in the request.
        variables: the loop variables of this member.
        deadline: when this attempt has to be done, in seconds since the epoch; None for no limit.
    """

    __slots__ = (
        "_context",
        "_log",
        "_name",
        "_shared",
        "_stop",
        "_uncopied",
        "_variables",
        "attempt",
        "deadline",
        "index",
        "inputs",
        "instructions",
        "message",
        "variables",
    )

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
    ) -> None:
        self._shared = TaskScope(
            task_name=name if task_name is None else task_name,
            group=group,
            run_id=run_id,
            session_id=session_id,
            tools=tools,
            context=context,
            listener=AttemptCallbacks(report, post),
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
        """Constructor for the worker: positional and without shared values, which is twice as fast.

        The task copies mutable values on first access, because members and attempts share them. `has_texts` means
        that message and instructions are text.
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
            task._uncopied = {"message": message, "instructions": instructions, "inputs": inputs}
        task._variables = variables
        task.deadline = deadline
        task._stop = stop
        task._log = None
        task._context = None
        return task

    def __getattr__(self, name: str) -> Any:
        """Copy a value on first access: Python calls this for an empty slot."""
        if name == "variables":
            value = copy_of(self._variables)
        elif name in ("message", "instructions", "inputs"):
            value = copy_of(self._uncopied[name])
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
        """32 hexadecimal digits, the same in every attempt and delivery of this member and in no other."""
        identity = orjson.dumps((self.run_id, self.group, self.task_name, self.index))
        return hashlib.blake2b(identity, digest_size=16).hexdigest()

    @property
    def cancelled(self) -> bool:
        """Whether this attempt is to stop: the run was cancelled or timed out, or the attempt did. Any thread
        may ask."""
        return self._stop is not None and self._stop.is_set()

    @property
    def log(self) -> TaskLog:
        """A logger whose records carry the run, group, task, member and attempt. The run shows its lines of INFO
        and above as `task.log` events: the first 100 of an attempt, up to 2,000 characters each."""
        if self._log is None:
            self._log = TaskLog(self._identity(), self._tell)
        return self._log

    def _tell(self, line: Line | None, book: LogBook) -> None:
        self._shared.listener.log(self.index or 0, self.attempt, line, book)

    async def progress(self, fraction: float, note: str = "") -> None:
        """Tell how far this attempt is: 0 to 1; what is outside is moved to the nearest of the two.

        Raises:
            ValueError: `fraction` is no number.
        """
        await self._shared.listener.progress(self.index or 0, _share(fraction), storable(str(note)))

    def report_progress(self, fraction: float, note: str = "") -> None:
        """The same for a `def` agent, which cannot await: any thread may call it, and it does not wait.

        Raises:
            ValueError: `fraction` is no number.
        """
        self._shared.listener.post(self.index or 0, _share(fraction), storable(str(note)))

    def _identity(self) -> dict[str, Any]:
        return {
            "run": self.run_id,
            "group": self.group,
            "task": self.task_name,
            "member": self.name,
            "attempt": self.attempt,
        }

    def __repr__(self) -> str:
        return f"<Task {self.group}/{self.name} attempt {self.attempt} of run {self.run_id}>"


def _share(fraction: float) -> float:
    if fraction != fraction:  # NaN is the one value that differs from itself
        raise ValueError("progress is a fraction of 0 to 1, not NaN")
    return min(1.0, max(0.0, float(fraction)))
