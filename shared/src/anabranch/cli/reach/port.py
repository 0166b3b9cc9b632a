"""What the commands ask of a running system: queries and control, as a Protocol. Holds no behaviour.

Both implementations answer with the same values, so that a command prints the same and ends with the same exit
code, whichever way it reaches the system.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from anabranch.core.events import EventBatch
from anabranch.deadletters.decisions import Action, Choice
from anabranch.runtime.contexts import Difference, SharedContext
from anabranch.runtime.views import View
from anabranch.sdk.client import Control
from anabranch.sdk.run_result import RunResult

if TYPE_CHECKING:
    from anabranch.cli.top.snapshot import Snapshot
    from anabranch.cli.why_examination import Answer

Event = dict[str, Any]


class FollowedRun(Protocol):
    """A run that was submitted or found; `sdk.Run` is one."""

    run_id: str
    request_id: str | None
    session_id: str | None
    warnings: tuple[str, ...]

    @property
    def heard(self) -> bool:
        """Whether the system has answered."""

    def event_batches(self) -> AsyncGenerator[EventBatch, None]:
        """The run's events as views count them, up to the last one. May repeat."""

    async def ended(self, timeout: float | None = None) -> str:
        """Wait for the run's end; returns its status. Raises TimeoutError, ServerUnavailable."""

    async def result(self) -> RunResult:
        """Wait for the run's end; how it ended, with its results. Raises ServerUnavailable."""

    async def cancel(self) -> None:
        """Ask for the run to be cancelled. Raises ServerUnavailable."""


@dataclass(frozen=True, slots=True)
class Controlled:
    """A run that was acted on. `known`: whether the system knows it; `ended`: how it had ended before, if so."""

    run_id: str
    known: bool = True
    ended: str | None = None


@dataclass(frozen=True, slots=True)
class Differences:
    """What versions `a` and `b` of a session's context differ in."""

    session_id: str
    a: int
    b: int
    found: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class LetterGroups:
    """Dead letters by failure, how many letters the groups have, and how many more were decided on before."""

    groups: Sequence[Mapping[str, Any]]
    letters: int
    decided: int


class Looks(Protocol):
    """What `top` looks through: remembers what makes the next look cheaper."""

    async def snapshot(self) -> Snapshot:
        """All of it now. Raises ServerUnavailable."""


class Installation(Protocol):
    """A running system. Every call raises ServerUnavailable where it cannot be reached.

    RUN is a run id or a request id. Where there is no such run, the calls that need one raise Misconfigured.
    """

    @property
    def place(self) -> str:
        """What it is and where, in a few words."""

    async def submit(self, request: Mapping[str, Any]) -> FollowedRun:
        """Submit a valid request; its run. Raises RequestRefused."""

    async def retry(self, run: str, request_id: str | None) -> FollowedRun:
        """Start a run that takes over the results of one. Raises RequestRefused where that cannot be retried."""

    async def control(self, action: Control, run: str) -> Controlled:
        """Cancel, pause or resume a run. One that is not known is no error here: see `Controlled`."""

    async def views(self, limit: int) -> Sequence[View]:
        """The views of the latest runs, the latest first."""

    async def status(self, run: str) -> View:
        """The view of a run; of an open one with `alive`, the workers with a fresh heartbeat."""

    async def result(self, run: str, timeout: float | None) -> RunResult | None:
        """How a run ended; None where it has not within `timeout` seconds (None: by now)."""

    def events(self, run: str, *, follow: bool) -> AsyncGenerator[Event, None]:
        """A run's events in order: those there are, or with `follow` all up to its end. None of an unknown run."""

    async def context(self, run: str, at: int | None) -> SharedContext:
        """The context of a run's session as of a version. Raises NoSuchVersion."""

    async def differences(self, run: str, a: int, b: int) -> Differences:
        """What two versions of the context of a run's session differ in. Raises NoSuchVersion."""

    async def why(self, run: str, *, heal: bool) -> tuple[Answer, list[str]]:
        """Why a run does not end, and with `heal` what was done about it."""

    async def letter_groups(self, *, run: str | None, signature: str | None, every: bool) -> LetterGroups:
        """Open dead letters, with `every` all of them, grouped by failure."""

    async def letter(self, letter_id: str) -> Mapping[str, Any]:
        """Everything of one dead letter. Raises Misconfigured where there is none of this id."""

    async def decide(self, action: Action, choice: Choice) -> Mapping[str, Any]:
        """Redrive or dismiss dead letters: the document of `dlq redrive --json`. Raises Misconfigured where one
        that is named is not there."""

    def looks(self, limit: int) -> Looks:
        """Looks at the latest runs and the system's parts, for `top`."""
