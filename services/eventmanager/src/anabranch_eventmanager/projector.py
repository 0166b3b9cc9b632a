"""The partitions that this process has, and everything that is remembered of them.

Takes records in, has the core decide, stores the new facts and hands effects on to the outlets. Knows
neither Faust nor Redis: a driver brings records and partitions and keeps the durable copy of the facts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from anabranch.core.names import Names
from anabranch.core.telemetry import NUDGES
from anabranch.core.wire.codec import Undecodable, encode
from anabranch.core.wire.messages import Nudge
from anabranch.ports import Clock, Incoming, Outgoing, Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.ownership.dead_letter import dead_letter
from anabranch.runtime.ownership.watchdog import Progress
from anabranch_eventmanager.projection.decisions import At, Effect, EventProjection, RunChanged, has_ended
from anabranch_eventmanager.projection.document_store import DocumentStore
from anabranch_eventmanager.projection.documents import Document, run_key
from anabranch_eventmanager.projection.nudges import NEVER, NUDGE_AFTER, OVERDUE_SECONDS, NudgeSchedule
from anabranch_eventmanager.projection.records import decode_record
from anabranch_eventmanager.projection.retention import RetentionSchedule, keep_until
from anabranch_eventmanager.projection.run_views import fact_keys
from anabranch_eventmanager.projection.subscriptions import Forward, run_subscriptions_key

Persist = Callable[[int, str, Document | None], None]
"""Keep a document of a partition, or forget it (None), before the record's offset is committed."""

_log = logging.getLogger("anabranch.eventmanager")


class Sinks(Protocol):
    """Where effects go. None of these may block; each is bounded."""

    def forward(self, message: Forward) -> None:
        """Publish an event on a channel."""

    def view_changed(self, partition: int, run_id: str, *, urgent: bool) -> None:
        """Write a run's view soon, or at once."""

    def view_dropped(self, run_id: str) -> None:
        """A run is not shown any more."""

    def publish(self, record: Outgoing) -> None:
        """Append a record to the log; it may get lost with the process."""

    def nudge(self, record: Outgoing, workers: Sequence[str], silent_for: float) -> None:
        """Append a nudge of a run, unless one of the workers that lately started something of it lives: a long
        agent is silent by right. After an hour of silence it is appended all the same."""


@dataclass(slots=True)
class ProjectedPartition:
    """One partition's facts and schedules. `facts` are replaced document by document, never changed inside."""

    facts: DocumentStore
    persist: Persist
    nudges: NudgeSchedule
    progress: Progress = field(default_factory=lambda: Progress(()))
    retention: RetentionSchedule = field(default_factory=RetentionSchedule)


class Projector:
    """See the module. All times are the clock's `now`.

    Args:
        result_ttl: seconds that an ended run is kept and shown.
        nudge_after: seconds of silence before a run's owner is nudged.
    """

    def __init__(
        self,
        names: Names,
        clock: Clock,
        outlets: Sinks,
        *,
        result_ttl: float,
        nudge_after: float = NUDGE_AFTER,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._telemetry = telemetry
        self._core = EventProjection(names.subscriber_channels)
        self._names = names
        self._clock = clock
        self._outlets = outlets
        self._result_ttl = result_ttl
        self._nudge_after = nudge_after
        self._partitions: dict[int, ProjectedPartition] = {}

    def open(self, number: int, facts: dict[str, Document], persist: Persist) -> None:
        """Take over a partition with what is known of it. Views that nobody may have written are written."""
        partition = ProjectedPartition(DocumentStore(facts), persist, NudgeSchedule(self._nudge_after))
        self._partitions[number] = partition
        for key, document in facts.items():
            self._schedule(partition, key, document)
            if key != run_key(document.get("run_id", "")):
                continue
            if document["settled"]:
                partition.facts.put_away(list(fact_keys(partition.facts, document["run_id"])))
            else:
                self._outlets.view_changed(number, document["run_id"], urgent=False)

    def show_again(self, numbers: Sequence[int]) -> None:
        """Have the views of all runs of these partitions written: the store does not have them any more."""
        for number in numbers:
            partition = self._partitions.get(number)
            for key, document in partition.facts.items() if partition else ():
                if key.startswith("run/"):
                    self._outlets.view_changed(number, document["run_id"], urgent=False)

    def close(self, number: int) -> None:
        """Forget a partition that is somebody else's now."""
        self._partitions.pop(number, None)

    def partitions(self) -> Sequence[int]:
        """The partitions that are open."""
        return list(self._partitions)

    def facts_of(self, number: int) -> Mapping[str, Document] | None:
        """What is known of a partition; None where it is not open."""
        partition = self._partitions.get(number)
        return None if partition is None else partition.facts

    def progress(self) -> dict[int, Progress]:
        """How far each partition that is open has been handled."""
        return {number: partition.progress for number, partition in self._partitions.items()}

    def open_runs(self) -> int:
        """How many runs have not ended."""
        return sum(len(each.nudges) for each in self._partitions.values())

    def handle(self, record: Incoming, *, replayed: bool = False) -> None:
        """Apply one record. What cannot be applied goes to the dead letters; one record stops nobody.

        Args:
            replayed: it was handled before and only rebuilds memory: nothing is forwarded again.
        """
        partition = self._partitions.get(record.partition)
        if partition is None:
            return
        partition.progress.note(1, record.offset)
        try:
            decoded = decode_record(record.value)
            at = At(record.partition, record.offset, record.timestamp)
            applied = self._core.apply(partition.facts, decoded, at)
        except Undecodable as error:
            self._refuse(record, str(error))
            return
        except Exception as error:  # noqa: BLE001 - a fault of ours must not stop the views of all other runs
            _log.exception("%s[%d]@%d cannot be applied", record.topic, record.partition, record.offset)
            self._refuse(record, f"{type(error).__name__}: {error}")
            return
        for key, document in applied.writes.items():
            self._store(partition, record.partition, key, document)
        for effect in applied.effects:
            self._emit(record.partition, effect, replayed)

    def view_written(self, number: int, run_id: str, offset: int) -> None:
        """The view of a run was written as of `offset`; that of an ended one need not be written again."""
        partition = self._partitions.get(number)
        run = partition.facts.get(run_key(run_id)) if partition else None
        if partition and run and run["offset"] == offset and has_ended(run) and not run["settled"]:
            self._store(partition, number, run_key(run_id), run | {"settled": True})
            partition.facts.put_away(list(fact_keys(partition.facts, run_id)))

    def tick(self) -> None:
        """Do what is due by now: nudge the owners of silent runs, drop what was kept long enough."""
        now = self._clock.now()
        for number, partition in self._partitions.items():
            for silence in partition.nudges.due(now):
                self._nudge(partition.facts[run_key(silence.run_id)], silence.silent_for)
            for key in partition.retention.due(now):
                self._drop(partition, number, key)

    def _emit(self, number: int, effect: Effect, replayed: bool) -> None:
        if isinstance(effect, RunChanged):
            self._outlets.view_changed(number, effect.run_id, urgent=effect.urgent)
        elif not replayed:
            self._outlets.forward(effect)

    def _store(self, partition: ProjectedPartition, number: int, key: str, document: Document) -> None:
        partition.facts[key] = document
        partition.persist(number, key, document)
        self._schedule(partition, key, document)

    def _schedule(self, partition: ProjectedPartition, key: str, document: Document) -> None:
        until = keep_until(key, document, self._result_ttl)
        if until is not None:
            partition.retention.keep(key, until)
        if key.startswith("run/"):
            if has_ended(document):
                partition.nudges.ended(document["run_id"])
            elif document.get("quiet") and document["submitted_at"] is not None:  # else most of it was missed
                partition.nudges.rest(document["run_id"], self._clock.now(), document.get("deadline"))
            else:
                partition.nudges.heard(document["run_id"], self._clock.now(), document.get("deadline"))

    def _drop(self, partition: ProjectedPartition, number: int, key: str) -> None:
        document = partition.facts.get(key)
        if document is None:
            return
        keys = [key]
        if key.startswith("run/"):
            run_id = document["run_id"]
            keys = [*fact_keys(partition.facts, run_id), run_subscriptions_key(run_id)]
            partition.nudges.ended(run_id)
            self._outlets.view_dropped(run_id)
        for each in keys:
            if partition.facts.pop(each, None) is not None:
                partition.persist(number, each, None)

    def _nudge(self, run: Document, silent_for: float) -> None:
        nudge = Nudge(run_id=run["run_id"], silent_for=silent_for)
        record = Outgoing(self._names.groups, run["session_id"], encode(nudge))
        workers = () if self._is_suspect(run) else run.get("workers", ())
        self._outlets.nudge(record, workers, silent_for)
        self._telemetry.count(NUDGES)

    def _is_suspect(self, run: Document) -> bool:
        """Whether a run is nudged although workers of it live: its deadline is over, or most of it was missed."""
        overdue_at = (run.get("deadline") or NEVER) + OVERDUE_SECONDS
        return overdue_at <= self._clock.now() or run["submitted_at"] is None

    def _refuse(self, record: Incoming, reason: str) -> None:
        _log.warning("%s[%d]@%d is dead-lettered: %s", record.topic, record.partition, record.offset, reason)
        self._outlets.publish(dead_letter(self._names, record, reason))
