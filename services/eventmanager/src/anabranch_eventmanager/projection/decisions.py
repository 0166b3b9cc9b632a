"""Applies a record of the events topic to the documents of its run, and returns the effects to execute. Pure.

The documents of a run depend on the log alone: the same records in offset order give the same documents and
effects, on Faust and in a plain loop. A record that is applied again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anabranch.core.event_sources import is_of_run
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch_eventmanager.projection.documents import (
    RUN_RANKS,
    Document,
    Documents,
    Draft,
    apply_entry,
    known_project,
    new_run,
    run_key,
)
from anabranch_eventmanager.projection.records import EventRecord
from anabranch_eventmanager.projection.subscriptions import Forward, forwards, subscription_key, with_subscription

_ENDED_RANK = RUN_RANKS["completed"]


@dataclass(frozen=True, slots=True)
class RecordPosition:
    """Location of a record, and its timestamp in seconds since the epoch."""

    partition: int
    offset: int
    timestamp: float


@dataclass(frozen=True, slots=True)
class RunChanged:
    """The view of a run has changed.

    `urgent`: people may be waiting for it, because the run has ended.
    """

    run_id: str
    urgent: bool


Effect = Forward | RunChanged


@dataclass(frozen=True, slots=True)
class Applied:
    """The documents to replace and the effects to execute."""

    writes: Mapping[str, Document]
    effects: Sequence[Effect]


NOTHING_APPLIED = Applied({}, ())


class EventProjection:
    """Applies records to the documents of one partition.

    Args:
        channels: required prefix of the channels to which events are forwarded.
    """

    def __init__(self, channels: str) -> None:
        self._channels = channels

    def apply(self, documents: Documents, record: EventRecord, at: RecordPosition) -> Applied:
        """The new documents and effects. `documents` is not changed: the caller stores the writes."""
        if record.type != "events":
            key = subscription_key(record)
            return Applied({key: with_subscription(documents.get(key), record, at.timestamp)}, ())
        known = documents.get(run_key(record.run_id))
        if known is None and not is_of_run(record.run_id):
            return NOTHING_APPLIED
        if known is not None and at.offset <= known["offset"]:
            return NOTHING_APPLIED
        return _apply_batch(documents, known, record, at, self._channels)


def has_ended(run: Document) -> bool:
    """True if a run has its final status."""
    return RUN_RANKS[run["status"]] == _ENDED_RANK


def fold_batch(
    known: Document | None, batch: EventBatch, offset: int
) -> tuple[Document, Sequence[tuple[EventEntry, int]]]:
    """The document of a run after a batch, and its new entries, each with the `seq` of its first event."""
    draft = Draft(new_run(batch) if known is None else known)
    run = draft.run
    entries = _numbered(run, batch)
    for entry, _ in entries:
        apply_entry(draft, entry)
    if known is None:
        run["events_from"] = offset
    run["offset"] = offset
    # Only the session's owner knows whether events are expected; in batches of the Agency the field has no
    # meaning.
    if batch.source == "groups":
        run["quiet"] = batch.quiet
    # Its view has to be written again; `view_written` settles an ended run.
    run["settled"] = False
    run["request_id"] = run["request_id"] or batch.request_id
    return run, entries


def _apply_batch(
    documents: Documents, known: Document | None, batch: EventBatch, at: RecordPosition, channels: str
) -> Applied:
    run, entries = fold_batch(known, batch, at.offset)
    urgent = has_ended(run) and not (known is not None and has_ended(known))
    forwarded = forwards(documents, batch, entries, known_project(run), channels)
    return Applied({run_key(batch.run_id): run}, (*forwarded, RunChanged(batch.run_id, urgent)))


def _numbered(run: Document, batch: EventBatch) -> list[tuple[EventEntry, int]]:
    """The new entries of a batch, each with the `seq` of its first event. Advances the `seq` of the run.

    An event that an owner repeats after a crash has a cause that was seen before: see `core.wire.events`. The
    end of an open run is applied whatever its cause, because causes start again if both log and store were lost.
    """
    last, seq = run["causes"].get(batch.source, -1), run["seq"]
    numbered = []
    for entry in batch.entries:
        if entry.cause > last or _ends(run, entry):
            numbered.append((entry, seq + 1))
            seq += 1 if entry.spans is None else sum(stop - start for start, stop in entry.spans)
    if numbered:
        run["seq"] = seq
        run["causes"] = run["causes"] | {batch.source: max(last, batch.entries[-1].cause)}
    return numbered


def _ends(run: Document, entry: EventEntry) -> bool:
    kind, _, action = entry.type.partition(".")
    is_end = kind == "run" and RUN_RANKS.get(action) == _ENDED_RANK
    return is_end and not has_ended(run) and entry.time >= (run["submitted_at"] or 0.0)
