"""Shared by all members of a task: its identity, its context, and the listener of progress and log lines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from anabranch.core.project import DEFAULT_PROJECT
from anabranch.sdk.task_log import Line, LogBook

if TYPE_CHECKING:
    from anabranch.sdk.event_publisher import EventPublisher

Report = Callable[[float, str], Awaitable[None]]
"""Receives the progress of an attempt: a fraction from 0 to 1, and a note."""
Post = Callable[[float, str], None]
"""As Report, callable from any thread and without waiting."""


class Flag(Protocol):
    """Asks an attempt to stop: a `threading.Event`, or any object with its `is_set`."""

    def is_set(self) -> bool:
        """True once the attempt should stop."""


class ProgressListener(Protocol):
    """Receives progress and log lines of members.

    `index` is the member's index; 0 for a task without an expansion. `post`, `spend` and `log` may be called
    from any thread.
    """

    async def progress(self, index: int, fraction: float, note: str) -> None:
        """Receive the progress of a member."""

    def post(self, index: int, fraction: float, note: str) -> None:
        """Receive the progress of a member, without waiting."""

    def spend(self, index: int, attempt: int, nanos: int, tokens: int) -> None:
        """Receive what an attempt has used besides: billionths of a dollar, and tokens. Called in any thread."""

    def log(self, index: int, attempt: int, line: Line | None, book: LogBook) -> None:
        """Receive a log line. None means that further lines of the attempt are dropped; `book` counts them."""


@dataclass(frozen=True, slots=True)
class AttemptCallbacks:
    """ProgressListener of one attempt: calls the `report` and `post` of a `Task` that is built in a test."""

    report: Report | None
    post_: Post | None

    async def progress(self, index: int, fraction: float, note: str) -> None:
        if self.report is not None:
            await self.report(fraction, note)

    def post(self, index: int, fraction: float, note: str) -> None:
        if self.post_ is not None:
            self.post_(fraction, note)

    def spend(self, index: int, attempt: int, nanos: int, tokens: int) -> None:
        """Does nothing: `Task.spent` has the sum."""

    def log(self, index: int, attempt: int, line: Line | None, book: LogBook) -> None:
        """Does nothing: the standard log record is written in any case."""


@dataclass(frozen=True, slots=True)
class TaskScope:
    """Values that all members of a task share. `listener` receives their progress and log lines."""

    task_name: str
    group: str
    run_id: str
    session_id: str
    tools: Sequence[str]
    context: Mapping[str, Any]
    listener: ProgressListener
    iteration: tuple[int, ...] = ()
    events: EventPublisher | None = None
    """None for a `Task` that is built in a test."""
    project: str = DEFAULT_PROJECT
    """Of the run."""
