"""The event manager's decisions: a record of the events topic and what is known, to new facts and effects.

Pure: the same records give the same facts and effects, on Faust and in a plain loop. What it knows of a run
is folded from the log alone, in offset order; a record that comes again changes nothing. It owns no run:
views, forwarding and nudges wait while it is away, and the runs go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch_eventmanager.projection.documents import (
    RUN_RANKS,
    Document,
    Draft,
    Facts,
    apply_entry,
    new_run,
    project_of,
    run_key,
)
from anabranch_eventmanager.projection.records import EventRecord
from anabranch_eventmanager.projection.subscriptions import Forward, apply_subscription, forwards

_ENDED_RANK = RUN_RANKS["completed"]


@dataclass(frozen=True, slots=True)
class At:
    """Where a record stands, and its own time in seconds since the epoch."""

    partition: int
    offset: int
    timestamp: float


@dataclass(frozen=True, slots=True)
class RunChanged:
    """A run's view is to be written: at once where people wait for it (its first fact, its end)."""

    run_id: str
    urgent: bool


Effect = Forward | RunChanged


@dataclass(frozen=True, slots=True)
class Applied:
    """The facts to replace, in the order to store them, and what is to be done."""

    writes: Mapping[str, Document]
    effects: Sequence[Effect]


class EventProjection:
    """Applies records to the facts of one partition. `channels`: required prefix of channels for forwarded
    events."""

    def __init__(self, channels: str) -> None:
        self._channels = channels

    def apply(self, facts: Facts, record: EventRecord, at: At) -> Applied:
        """New facts and effects. `facts` stay as they are: the caller stores the writes."""
        draft = Draft(facts)
        if not isinstance(record, EventBatch):
            apply_subscription(draft, record, at.timestamp)
            return Applied(draft.writes, ())
        known = facts.get(run_key(record.run_id))
        if known is not None and at.offset <= known["offset"]:
            return Applied({}, ())
        return _apply_batch(draft, facts, record, at, self._channels)


def has_ended(run: Document) -> bool:
    """Whether a run has its final status."""
    return RUN_RANKS[run["status"]] == _ENDED_RANK


def _apply_batch(draft: Draft, facts: Facts, batch: EventBatch, at: At, channels: str) -> Applied:
    key = run_key(batch.run_id)
    run = draft.open(key, lambda: new_run(batch))
    ended_before = has_ended(run)
    entries = _numbered(run, batch)
    for entry, _ in entries:
        apply_entry(draft, run, entry)
    if key not in facts:
        run["events_from"] = at.offset
    run["offset"] = at.offset
    if batch.source == "groups":
        run["quiet"] = batch.quiet
    run["settled"] = False
    run["request_id"] = run["request_id"] or batch.request_id
    urgent = key not in facts or has_ended(run) != ended_before
    forwarded = forwards(facts, batch, entries, project_of(run), channels)
    effects: tuple[Effect, ...] = (*forwarded, RunChanged(batch.run_id, urgent))
    return Applied(_changes(draft, facts, last=key), effects)


def _changes(draft: Draft, facts: Facts, last: str) -> Mapping[str, Document]:
    """The documents that differ from the facts, one of them at the end: see `run_key`."""
    changes = {key: document for key, document in draft.writes.items() if facts.get(key) != document}
    return changes | {last: changes.pop(last)}


def _numbered(run: Document, batch: EventBatch) -> list[tuple[EventEntry, int]]:
    """The entries of a batch that are new, each with the `seq` of its first event; the run counts on.

    An announcement that an owner repeated after a crash has a cause that was seen: see `core.events`. The end of a
    run that is open here is taken whatever its cause: causes begin again where log and store were both lost.
    """
    last = run["causes"].get(batch.source, -1)
    fresh = [entry for entry in batch.entries if entry.cause > last or _ends(run, entry)]
    numbered = []
    for entry in fresh:
        numbered.append((entry, run["seq"] + 1))
        run["seq"] += _width(entry)
    if fresh:
        run["causes"] = run["causes"] | {batch.source: max(last, batch.entries[-1].cause)}
    return numbered


def _ends(run: Document, entry: EventEntry) -> bool:
    kind, _, what = entry.type.partition(".")
    is_end = kind == "run" and RUN_RANKS.get(what) == _ENDED_RANK
    return is_end and not has_ended(run) and entry.time >= (run["submitted_at"] or 0.0)


def _width(entry: EventEntry) -> int:
    """How many single events an entry stands for."""
    return 1 if entry.spans is None else sum(stop - start for start, stop in entry.spans)
