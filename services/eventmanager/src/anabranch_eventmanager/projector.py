"""Projects the events of the partitions that this process has assigned.

It applies the pure projection to each record, stores the documents that a batch of records changed, and passes
the effects to the sinks. A driver delivers partitions and records and keeps the durable copy of the documents.
The event manager owns no run: while it is down, views, forwarding and nudges are delayed, and the runs continue.
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
from anabranch_eventmanager.projection.decisions import (
    NOTHING_APPLIED,
    Applied,
    EventProjection,
    RecordPosition,
    RunChanged,
    has_ended,
)
from anabranch_eventmanager.projection.document_store import DocumentStore
from anabranch_eventmanager.projection.documents import Document, run_key
from anabranch_eventmanager.projection.nudges import NEVER, NUDGE_AFTER, OVERDUE_SECONDS, NudgeSchedule
from anabranch_eventmanager.projection.records import decode_record
from anabranch_eventmanager.projection.retention import RetentionSchedule, keep_until
from anabranch_eventmanager.projection.subscriptions import Forward, run_subscriptions_key

Persist = Callable[[int, str, Document | None], None]
"""Store a document of a partition durably, or delete it (None), before the offsets of the batch are committed."""

_log = logging.getLogger("anabranch.eventmanager")


class Sinks(Protocol):
    """Executes effects. No method may block; each has a bounded queue."""

    def forward(self, message: Forward) -> None:
        """Publish an event on a channel."""

    async def sent(self) -> None:
        """Wait until the events and records that were passed so far have been published."""

    def view_changed(self, partition: int, run_id: str, *, urgent: bool) -> None:
        """Write the view of a run soon, or at once if `urgent`."""

    def view_dropped(self, run_id: str) -> None:
        """Remove a run from the list of recent runs."""

    def publish(self, record: Outgoing) -> None:
        """Append a record to the log."""

    def nudge(self, record: Outgoing, workers: Sequence[str], silent_for: float) -> None:
        """Append a nudge for a run, unless one of the workers that last started its members is alive.

        A long-running agent causes no events, so silence is normal then. After an hour of silence the nudge is
        appended in any case.
        """


@dataclass(slots=True)
class ProjectedPartition:
    """The documents and schedules of one partition. Documents are replaced, never changed in place."""

    documents: DocumentStore
    persist: Persist
    nudges: NudgeSchedule
    progress: Progress = field(default_factory=lambda: Progress(()))
    retention: RetentionSchedule = field(default_factory=RetentionSchedule)


class Projector:
    """See the module. All times are seconds since the epoch, from the clock.

    Args:
        result_ttl: seconds for which an ended run is kept and shown.
        nudge_after: seconds of silence before a run's owner is nudged.
    """

    def __init__(
        self,
        names: Names,
        clock: Clock,
        sinks: Sinks,
        *,
        result_ttl: float,
        nudge_after: float = NUDGE_AFTER,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._telemetry = telemetry
        self._projection = EventProjection(names.subscriber_channels)
        self._names = names
        self._clock = clock
        self._sinks = sinks
        self._result_ttl = result_ttl
        self._nudge_after = nudge_after
        self._partitions: dict[int, ProjectedPartition] = {}

    def open(self, number: int, documents: dict[str, Document], persist: Persist) -> None:
        """Start with a partition and its stored documents.

        Writes the views that its last owner may not have written.
        """
        partition = ProjectedPartition(DocumentStore(documents), persist, NudgeSchedule(self._nudge_after))
        self._partitions[number] = partition
        now = self._clock.now()
        for key, document in documents.items():
            self._schedule(partition, key, document, now)
            if not key.startswith("run/"):
                continue
            if document["settled"]:
                partition.documents.compress(key)
            else:
                self._sinks.view_changed(number, document["run_id"], urgent=False)

    def rewrite_views(self, numbers: Sequence[int]) -> None:
        """Write the views of all runs of these partitions again, because the store has lost them."""
        for number in numbers:
            partition = self._partitions.get(number)
            for key, document in partition.documents.items() if partition else ():
                if key.startswith("run/"):
                    self._sinks.view_changed(number, document["run_id"], urgent=False)

    def close(self, number: int) -> None:
        """Drop a partition that was revoked."""
        self._partitions.pop(number, None)

    def partitions(self) -> Sequence[int]:
        """The assigned partitions."""
        return list(self._partitions)

    def documents_of(self, number: int) -> Mapping[str, Document] | None:
        """The documents of a partition; None if it is not assigned."""
        partition = self._partitions.get(number)
        return None if partition is None else partition.documents

    def progress(self) -> dict[int, Progress]:
        """The progress of each assigned partition, for the watchdog."""
        return {number: partition.progress for number, partition in self._partitions.items()}

    async def outputs_sent(self) -> None:
        """Wait until what was passed to the sinks so far has reached the servers, but for views: those are written
        again after a restart."""
        await self._sinks.sent()

    def open_runs(self) -> int:
        """The number of runs that have not ended."""
        return sum(len(each.nudges) for each in self._partitions.values())

    def handle(self, number: int, records: Sequence[Incoming], *, replayed_until: int = 0) -> None:
        """Apply records of a partition, in offset order. A record that cannot be applied becomes a dead letter.

        Args:
            replayed_until: records before this offset were handled before and only rebuild the documents: their
                events are not forwarded.
        """
        partition = self._partitions.get(number)
        if partition is None or not records:
            return
        changed: dict[str, Document] = {}
        runs: dict[str, bool] = {}
        for record in records:
            applied = self._apply(partition.documents, record)
            for key, document in applied.writes.items():
                partition.documents[key] = changed[key] = document
            for effect in applied.effects:
                if isinstance(effect, RunChanged):
                    runs[effect.run_id] = effect.urgent or runs.get(effect.run_id, False)
                elif record.offset >= replayed_until:
                    self._sinks.forward(effect)
        # Once for a batch: a document that several of its records change is stored and scheduled as the last one
        # leaves it.
        now = self._clock.now()
        for key, document in changed.items():
            partition.persist(number, key, document)
            self._schedule(partition, key, document, now)
        for run_id, urgent in runs.items():
            self._sinks.view_changed(number, run_id, urgent=urgent)
        # Records that cannot be applied are progress too, else the watchdog would end the process.
        partition.progress.advance(len(records), records[-1].offset)

    def _apply(self, documents: Mapping[str, Document], record: Incoming) -> Applied:
        try:
            decoded = decode_record(record.value)
            at = RecordPosition(record.partition, record.offset, record.timestamp)
            return self._projection.apply(documents, decoded, at)
        except Undecodable as error:
            self._dead_letter(record, str(error))
        except Exception as error:  # noqa: BLE001 - a bug must not stop the views of all other runs
            _log.exception(
                "internal error of the event manager at %s/%d/%d, the record becomes a dead letter",
                record.topic,
                record.partition,
                record.offset,
            )
            self._dead_letter(record, f"{type(error).__name__}: {error}")
        return NOTHING_APPLIED

    def view_written(self, number: int, run_id: str, offset: int) -> None:
        """The view of a run was written as of `offset`.

        An ended run is then settled: its view is not written again.
        """
        partition = self._partitions.get(number)
        key = run_key(run_id)
        run = partition.documents.get(key) if partition else None
        # A newer offset means that the run has changed since: its next view settles it.
        if partition and run and run["offset"] == offset and has_ended(run) and not run["settled"]:
            settled = run | {"settled": True}
            partition.documents[key] = settled
            partition.documents.compress(key)
            partition.persist(number, key, settled)

    def tick(self) -> None:
        """Nudge the owners of silent runs, and drop documents whose retention is over."""
        now = self._clock.now()
        for number, partition in self._partitions.items():
            for silence in partition.nudges.due(now):
                self._nudge(partition.documents[run_key(silence.run_id)], silence.silent_for)
            for key in partition.retention.due(now):
                self._drop(partition, number, key)

    def _schedule(self, partition: ProjectedPartition, key: str, document: Document, now: float) -> None:
        until = keep_until(key, document, self._result_ttl)
        if until is not None:
            partition.retention.keep(key, until)
        if not key.startswith("run/"):
            return
        if has_ended(document):
            partition.nudges.remove(document["run_id"])
        elif document["status"] == "scheduled":
            partition.nudges.observe_idle(document["run_id"], now, document.get("not_before"))
        elif document["status"] == "queued" or (document.get("quiet") and not _has_missed_events(document)):
            partition.nudges.observe_idle(document["run_id"], now, document.get("deadline"))
        else:
            partition.nudges.observe(document["run_id"], now, document.get("deadline"))

    def _drop(self, partition: ProjectedPartition, number: int, key: str) -> None:
        document = partition.documents.get(key)
        if document is None:
            return
        keys = [key]
        if key.startswith("run/"):
            run_id = document["run_id"]
            keys.append(run_subscriptions_key(run_id))
            partition.nudges.remove(run_id)
            self._sinks.view_dropped(run_id)
        for each in keys:
            if partition.documents.pop(each, None) is not None:
                partition.persist(number, each, None)

    def _nudge(self, run: Document, silent_for: float) -> None:
        nudge = Nudge(run_id=run["run_id"], silent_for=silent_for)
        record = Outgoing(self._names.groups, run["session_id"], encode(nudge))
        # Without workers the sink appends the nudge in any case.
        workers = () if self._is_suspect(run) else run.get("workers", ())
        self._sinks.nudge(record, workers, silent_for)
        self._telemetry.count(NUDGES)

    def _is_suspect(self, run: Document) -> bool:
        """True if a run is nudged although its workers are alive: it is overdue, or most of its events were
        missed."""
        overdue_at = (run.get("deadline") or NEVER) + OVERDUE_SECONDS
        return overdue_at <= self._clock.now() or _has_missed_events(run)

    def _dead_letter(self, record: Incoming, reason: str) -> None:
        _log.warning(
            "the event manager dead-letters the record at %s/%d/%d: %s",
            record.topic,
            record.partition,
            record.offset,
            reason,
        )
        self._sinks.publish(dead_letter(self._names, record, reason))


def _has_missed_events(run: Document) -> bool:
    """True if the acceptance event of a run was not read, and so probably most of its events were not."""
    return run["submitted_at"] is None
