"""The owners' states of one run, folded out of the log by the services' own decisions. Pure but for the imports.

Only the records of the run are decided about: runs share a partition and nothing else. The settings that
decisions depend on are this process's, so they should be those of the services.
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
class Seen:
    """When and where something happened on the log."""

    at: float
    offset: int


@dataclass(frozen=True, slots=True)
class Decided:
    """A record that a turn published, and the offset of the record that it was decided about."""

    outgoing: Outgoing
    cause: int


@dataclass
class _Fold:
    """What both folds note on the way. `position` is the group's: records from there on are not committed."""

    run_id: str
    settings: Settings
    position: int
    news: list[Decided] = field(default_factory=list)
    last: Seen | None = None
    oldest_waiting: float | None = None

    def _is_ours(self, record: Incoming) -> bool:
        if record.offset >= self.position and self.oldest_waiting is None:
            self.oldest_waiting = record.timestamp
        end = record.value.find(b"\n")
        return self.run_id.encode() in (record.value if end < 0 else record.value[:end])

    def _note(self, record: Incoming, effects: list[Any]) -> Seen:
        for effect in effects:
            if isinstance(effect, (PublishAfter, PublishFirst)):
                self.news.append(Decided(effect.outgoing, record.offset))
        self.last = Seen(record.timestamp, record.offset)
        return self.last


@dataclass
class RunsFold(_Fold):
    """The run's owner: is it admitted, which groups have ended, has it ended."""

    submitted: Seen | None = None
    ended: Seen | None = None
    generation: int = 0
    """Generation of the log, which the records of the run contain."""

    def __post_init__(self) -> None:
        from anabranch_agency.run.state import PartitionState
        from anabranch_agency.run.turn import DecisionConfig

        self._rules = DecisionConfig(self.settings.names, self.settings.result_ttl)
        self._state = PartitionState(0, self.generation)

    @property
    def run(self) -> AgencyRun | None:
        """The open run; None where it was not submitted, or has ended."""
        return self._state.runs.get(self.run_id)

    @property
    def final(self) -> dict[str, Any] | None:
        """The body of the final record that the log leads to."""
        tombstone = self._state.tombstones.get(self.run_id)
        return tombstone.final if tombstone is not None else None

    def feed(self, record: Incoming) -> None:
        """Apply one record of the partition; those of other runs, and what cannot be read, change nothing."""
        from anabranch_agency.run.actor import decide

        if not self._is_ours(record):
            return
        try:
            message = RUNS.decode(record.value).message
        except Undecodable:
            return
        if getattr(message, "run_id", None) != self.run_id:
            return
        try:
            turn = decide(self._rules, self._state, message, record.offset, record.timestamp)
        except Exception:  # noqa: BLE001 - the owner buries such a record and goes on, and so does its fold
            return
        seen = self._note(record, turn.effects)
        if message.type == "submit" and self.submitted is None:
            self.submitted = seen
        if self.ended is None and self.final is not None:
            self.ended = seen


@dataclass
class GroupsFold(_Fold):
    """The session's owner, for this run alone."""

    opened: Seen | None = None
    by_task: dict[tuple[str, str | None], Seen] = field(default_factory=dict)
    """The last that happened to a task (None: to its group)."""

    def __post_init__(self) -> None:
        from anabranch_taskgroup.session.partition import PartitionState
        from anabranch_taskgroup.session.turn import DecisionConfig

        settings = self.settings
        self._rules = DecisionConfig(
            names=settings.names,
            inline_limit=settings.inline_limit,
            result_ttl=settings.result_ttl,
            member_limit=settings.members_limit,
        )
        self._state = PartitionState(0)

    @property
    def run(self) -> SessionRun | None:
        """The open run; None where it was not opened, or all its groups have ended."""
        return self._state.runs.get(self.run_id)

    def feed(self, record: Incoming) -> None:
        """Apply one record of the partition; those of other runs, and what cannot be read, change nothing."""
        from anabranch_taskgroup.session.actor import DeliveredMessage, decide

        if not self._is_ours(record):
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
            turn = decide(self._rules, self._state, delivery)
        except Exception:  # noqa: BLE001 - as above
            return
        seen = self._note(record, turn.effects)
        if message.type == "open_run" and self.opened is None:
            self.opened = seen
        if message.type == "start_group":
            self.by_task |= {(message.group, order.name): seen for order in message.tasks}
            self.by_task[message.group, None] = seen
        for _, entry in turn.events:
            if entry.group is not None:
                self.by_task[entry.group, entry.task] = seen
