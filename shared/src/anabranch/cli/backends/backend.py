"""Port of the commands to a running system: queries and control. Only protocols and values.

Both implementations return the same values, so a command has the same output and exit code with either.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from anabranch.cli.said import Said
from anabranch.core.run_filter import EVERY_RUN, RunFilter
from anabranch.core.wire.events import EventBatch
from anabranch.core.wire.run_view import RunView
from anabranch.dead_letters.decisions import Action, DeadLetterSelection
from anabranch.runtime.reading.contexts import Difference, SharedContext
from anabranch.sdk.approvals import Answerable, Decision
from anabranch.sdk.client import Control
from anabranch.sdk.run_result import RunResult

if TYPE_CHECKING:
    from anabranch.cli.top.snapshot import Snapshot
    from anabranch.operations.why.examination import Answer

Event = dict[str, Any]


class FollowedRun(Protocol):
    """A submitted or existing run; `sdk.Run` implements it."""

    run_id: str
    request_id: str | None
    session_id: str | None
    warnings: tuple[str, ...]

    @property
    def acknowledged(self) -> bool:
        """True once the system has accepted or rejected the request."""

    def event_batches(self) -> AsyncGenerator[EventBatch, None]:
        """Yield the run's events up to the last one. Events may repeat."""

    async def ended(self, timeout: float | None = None) -> str:
        """Wait for the run's end; returns its status. Raises TimeoutError, ServerUnavailable."""

    async def result(self) -> RunResult:
        """Wait for the run's end; returns its status and results. Raises ServerUnavailable."""

    async def cancel(self) -> None:
        """Request the run's cancellation. Raises ServerUnavailable."""


@dataclass(frozen=True, slots=True)
class ControlOutcome:
    """Outcome of a control command. `known`: the run exists; `ended`: its final status if it had already ended."""

    run_id: str
    known: bool = True
    ended: str | None = None


@dataclass(frozen=True, slots=True)
class Differences:
    """Differences between versions `a` and `b` of a session's context."""

    session_id: str
    a: int
    b: int
    found: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class DeadLetterGroups:
    """Dead letters grouped by failure, their number, and the number of those already redriven or dismissed."""

    groups: Sequence[Mapping[str, Any]]
    dead_letters: int
    decided: int


class SnapshotSource(Protocol):
    """Source of snapshots for `top`; caches what makes the next snapshot cheaper."""

    async def snapshot(self) -> Snapshot:
        """Read a snapshot. Raises ServerUnavailable."""


class Installation(Protocol):
    """A running system. Every call raises ServerUnavailable if the system cannot be reached.

    `run` is a run id or a request id. If there is no such run, calls that need one raise Misconfigured.
    """

    @property
    def description(self) -> str:
        """Short description of the system and its address."""

    async def submit(self, request: Mapping[str, Any]) -> FollowedRun:
        """Submit a valid request; returns its run. Raises RequestRefused."""

    async def retry(self, run: str, request_id: str | None, said: Said) -> FollowedRun:
        """Start a run that imports the results of an earlier run. Raises RequestRefused if that run cannot be
        retried."""

    async def fork(self, run: str, body: Mapping[str, Any], said: Said) -> FollowedRun:
        """Start a fork of an ended run. `body` has `from`, `set`, `request` and `request_id`, each optional.
        Raises RequestRefused if it cannot be started."""

    async def push_definition(self, document: Any) -> Mapping[str, Any]:
        """Store a version of a definition; returns its document. Raises RequestRefused."""

    async def definitions(self) -> Sequence[Mapping[str, Any]]:
        """Every version of every definition, without requests and schemas."""

    async def definition(self, reference: str) -> Mapping[str, Any]:
        """The document of a definition, by `name` or `name@version`. Raises RequestRefused if there is none."""

    async def put_schedule(self, document: Any, said: Said) -> Mapping[str, Any]:
        """Store a schedule; returns its view. Raises RequestRefused."""

    async def schedules(self) -> Sequence[Mapping[str, Any]]:
        """The views of all schedules; see `sdk.schedules`."""

    async def schedule(self, schedule_id: str) -> Mapping[str, Any]:
        """The view of a schedule. Raises RequestRefused if there is none."""

    async def act_on_schedule(
        self, action: str, schedule_id: str, said: Said, fields: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Pause, resume, trigger, backfill or delete a schedule; returns its view, None if it is deleted. `fields`
        are those of a backfill. Raises RequestRefused."""

    async def control(self, action: Control, run: str, said: Said) -> ControlOutcome:
        """Cancel, terminate, pause or resume a run. An unknown run is no error: see `ControlOutcome.known`."""

    async def signal(self, run: str, name: str, value: Any, signal_id: str | None) -> ControlOutcome:
        """Send a signal to a run, which may not be submitted yet: see `ControlOutcome.known`."""

    async def publish(self, event: Mapping[str, Any]) -> str:
        """Publish an event with `name`, `key`, `data`, and optionally `id`, `ttl` and `project`; returns its id.
        Raises RequestRefused."""

    async def decide_approval(self, wanted: Answerable) -> Decision:
        """Decide about a task that waits for a person; its `run_id` may be a request id. Raises DecisionRefused if
        the decision does not count."""

    async def workers(self) -> Sequence[Mapping[str, Any]]:
        """The live workers, as `workers --json` shows them."""

    async def agents(self) -> Sequence[Mapping[str, Any]]:
        """The agents of the live workers, as `agents --json` shows them."""

    async def limits(self) -> Sequence[Mapping[str, Any]]:
        """The limits that are held or waited for, as `limits --json` shows them."""

    async def set_breaker(self, agent: str, action: Literal["open", "close"], said: Said) -> None:
        """Open or close the breaker of an agent."""

    async def views(self, limit: int, wanted: RunFilter = EVERY_RUN) -> Sequence[RunView]:
        """The views of the latest runs that match, the latest first; those from the history have no groups."""

    async def status(self, run: str) -> RunView:
        """The view of a run; for an open run it has `alive`, the workers with a fresh heartbeat."""

    async def result(self, run: str, timeout: float | None) -> RunResult | None:
        """How a run ended; None if it is open after `timeout` seconds (None: check without waiting)."""

    def events(self, run: str, *, follow: bool) -> AsyncGenerator[Event, None]:
        """Yield a run's past events in order, with `follow` also future ones up to its end. Nothing for an unknown
        run."""

    async def context(self, run: str, at: int | None) -> SharedContext:
        """The context of a run's session as of a version. Raises NoSuchVersion."""

    async def differences(self, run: str, a: int, b: int) -> Differences:
        """Differences between two versions of the context of a run's session. Raises NoSuchVersion."""

    async def why(self, run: str, *, heal: bool) -> tuple[Answer, list[str]]:
        """Explain why a run does not end; with `heal`, re-send its pending work first."""

    async def dead_letter_groups(self, *, run: str | None, signature: str | None, every: bool) -> DeadLetterGroups:
        """Open dead letters grouped by failure; with `every`, also those already redriven or dismissed."""

    async def dead_letter(self, letter_id: str) -> Mapping[str, Any]:
        """All details of a dead letter. Raises Misconfigured if the id does not exist."""

    async def decide(self, action: Action, choice: DeadLetterSelection, said: Said) -> Mapping[str, Any]:
        """Redrive or dismiss dead letters; returns the document of `dlq redrive --json`. Raises Misconfigured if
        an id does not exist."""

    def snapshots(self, limit: int) -> SnapshotSource:
        """Source of snapshots for `top`: the latest runs and the state of the services."""
