"""Replays the records of one run with the services' own decisions, to get the state that its owners have.

Only records of the run are applied: runs share a partition, but no state. The decisions use the settings of this
process, which should be those of the services. The services are imported in functions, so that a command that only
renders an answer does not load them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anabranch.core.wire.codec import GROUPS, RUNS, Undecodable
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.ownership.effects import PublishAfter, PublishFirst

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings
    from anabranch_agency.run.state import Run as AgencyRun
    from anabranch_taskgroup.session.state import Run as SessionRun


@dataclass(frozen=True, slots=True)
class RecordTime:
    """Timestamp (seconds since the epoch) and offset of a record."""

    at: float
    offset: int


@dataclass(frozen=True, slots=True)
class PublishedRecord:
    """A record that a turn published. `cause` is the offset of the record that the turn applied."""

    outgoing: Outgoing
    cause: int


@dataclass
class _Replay:
    """What both replays collect.

    Attributes:
        position: committed offset of the consumer group; records from there on may not have been applied by the
            owner.
        published: records that the owner publishes for other owners and for users.
        last: position of the last record of the run.
        oldest_waiting: timestamp of the first uncommitted record of the partition.
    """

    run_id: str
    settings: Settings
    position: int
    published: list[PublishedRecord] = field(default_factory=list)
    last: RecordTime | None = None
    oldest_waiting: float | None = None

    def _may_concern_run(self, record: Incoming) -> bool:
        if record.offset >= self.position and self.oldest_waiting is None:
            self.oldest_waiting = record.timestamp
        # The ids of a message are in its header line. The search skips the decoding of most records of other runs.
        end = record.value.find(b"\n")
        return self.run_id.encode() in (record.value if end < 0 else record.value[:end])

    def _collect(self, record: Incoming, effects: list[Any]) -> RecordTime:
        for effect in effects:
            if isinstance(effect, (PublishAfter, PublishFirst)):
                self.published.append(PublishedRecord(effect.outgoing, record.offset))
        self.last = RecordTime(record.timestamp, record.offset)
        return self.last


@dataclass
class RunReplay(_Replay):
    """State of the run's owner (Agency): whether the run is admitted, which groups have ended, whether it has
    ended."""

    submitted: RecordTime | None = None
    ended: RecordTime | None = None
    generation: int = 0
    """Generation of the log, which the records of the run contain."""

    def __post_init__(self) -> None:
        from anabranch_agency.run.state import PartitionState
        from anabranch_agency.run.turn import DecisionConfig

        self._config = DecisionConfig(self.settings.names, self.settings.result_ttl)
        self._state = PartitionState(0, self.generation)

    @property
    def run(self) -> AgencyRun | None:
        """The open run; None if it was not submitted, or has ended."""
        return self._state.runs.get(self.run_id)

    @property
    def final(self) -> dict[str, Any] | None:
        """Body of the final record; None if the run has not ended."""
        tombstone = self._state.tombstones.get(self.run_id)
        return tombstone.final if tombstone is not None else None

    def apply(self, record: Incoming) -> None:
        """Apply a record of the partition. Records of other runs and records that cannot be decoded are
        skipped."""
        from anabranch_agency.run.actor import decide

        if not self._may_concern_run(record):
            return
        try:
            message = RUNS.decode(record.value).message
        except Undecodable:
            return
        if getattr(message, "run_id", None) != self.run_id:
            return
        try:
            turn = decide(self._config, self._state, message, record.offset, record.timestamp)
        except Exception:  # noqa: BLE001 - the owner dead-letters such a record and continues; so does its replay
            return
        position = self._collect(record, turn.effects)
        if message.type == "submit" and self.submitted is None:
            self.submitted = position
        if self.ended is None and self.final is not None:
            self.ended = position


@dataclass
class SessionReplay(_Replay):
    """State of the session's owner (TaskGroup), with this run only."""

    opened: RecordTime | None = None
    by_task: dict[tuple[str, str | None], RecordTime] = field(default_factory=dict)
    """Position of the last record that changed a task; under (group, None) of the last one that changed a
    group."""
    started_works: dict[str, float] = field(default_factory=dict)
    """By handle of work outside of workers: the time of the record that first has it."""

    def __post_init__(self) -> None:
        from anabranch_taskgroup.session.partition import PartitionState
        from anabranch_taskgroup.session.turn import DecisionConfig

        settings = self.settings
        self._config = DecisionConfig(
            names=settings.names,
            inline_limit=settings.inline_limit,
            result_ttl=settings.result_ttl,
            member_limit=settings.members_limit,
        )
        self._state = PartitionState(0)

    @property
    def run(self) -> SessionRun | None:
        """The open run; None if it was not opened, or if all its groups have ended."""
        return self._state.runs.get(self.run_id)

    def apply(self, record: Incoming) -> None:
        """Apply a record of the partition. Records of other runs and records that cannot be decoded are
        skipped."""
        from anabranch_taskgroup.session.actor import DeliveredMessage, decide

        if not self._may_concern_run(record):
            return
        try:
            found = GROUPS.decode(record.value)
        except Undecodable:
            return
        message = found.message
        if getattr(message, "run_id", None) != self.run_id:
            return
        delivery = DeliveredMessage(message, found.segments, record.offset, record.timestamp)
        try:
            turn = decide(self._config, self._state, delivery)
        except Exception:  # noqa: BLE001 - as in RunReplay: the owner dead-letters such a record and continues
            return
        position = self._collect(record, turn.effects)
        if message.type == "open_run" and self.opened is None:
            self.opened = position
        if message.type == "members":
            for _, _, handle in message.handles:
                self.started_works.setdefault(handle, record.timestamp)
        if message.type == "start_group":
            self.by_task |= {(message.group, order.name): position for order in message.tasks}
            self.by_task[message.group, None] = position
        for _, entry in turn.events:
            if entry.group is not None:
                self.by_task[entry.group, entry.task] = position
