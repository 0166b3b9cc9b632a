"""How each member of a run stands, folded from the run's events: a few bytes for each, so that a million fit.

Pure. A batch that comes again changes nothing. Members are counted from 0; an ordinary task has the one member 0.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.sdk.run_events import LAST_TYPES

MemberStatus = Literal["waiting", "running", "retrying", "completed", "failed", "held", "cancelled", "skipped"]
STATUSES: tuple[MemberStatus, ...] = (
    "waiting",
    "running",
    "retrying",
    "completed",
    "failed",
    "held",
    "cancelled",
    "skipped",
)
WAITING, RUNNING, RETRYING, COMPLETED, FAILED, HELD, CANCELLED, SKIPPED = range(len(STATUSES))
MAX_MEMBERS = 2_000_000
"""Of one task; an index beyond is nobody's."""
MAX_ERRORS = 10_000
"""Messages of failures that one task keeps; the first ones."""
MAX_PROGRESS = 1_000
MAX_ATTEMPTS = 65_535

Place = tuple[str, str]
"""Group and task."""


class TaskMembers:
    """The members of one task, in parallel arrays. `total` is None while nobody has counted them."""

    def __init__(self) -> None:
        self.expanded = False
        self.total: int | None = None
        self.status = bytearray()
        self.attempts = array("H")
        self.started_at = array("d")
        self.ended_at = array("d")
        self.worker = array("H")
        self.workers: list[str] = [""]
        self.errors: dict[int, tuple[str, str]] = {}
        self.progress: dict[int, dict[str, Any]] = {}
        self.over: int | None = None
        """What members that have not ended are, once the task is over."""

    def __len__(self) -> int:
        return len(self.status)

    def apply(self, entry: EventEntry) -> None:
        """Let one event change the members that it speaks of."""
        what = entry.type.partition(".")[2]
        if what == "waiting":
            return  # a wait for an agent changes no member
        if what == "expanded":
            self.expanded = True
            self.total = entry.data.get("count")
            self._grow(self.total or 0)
        elif what == "joined":
            self.over = CANCELLED
        elif entry.spans is not None or entry.index is not None:
            self.expanded = True
            for start, stop in _spans(entry):
                self._change(what, start, stop, entry)
        elif what in ("skipped", "cancelled") or (what == "failed" and self.expanded):
            self.over = SKIPPED if what == "skipped" else CANCELLED
        else:
            self.total = 1
            self._change(what, 0, 1, entry)

    def shown(self, index: int) -> MemberStatus:
        status = self.status[index]
        return STATUSES[self.over if self.over is not None and status <= RETRYING else status]

    def completed(self, index: int) -> bool:
        return self.status[index : index + 1] == bytes((COMPLETED,))

    def page(self, start: int, limit: int, wanted: str | None) -> list[int]:
        """The next members from `start` on that have a status."""
        found = []
        for index in range(start, len(self)):
            if wanted is None or self.shown(index) == wanted:
                found.append(index)
                if len(found) == limit:
                    break
        return found

    def count(self, wanted: str | None) -> int:
        """How many members have a status."""
        if wanted is None:
            return len(self)
        counts = [self.status.count(each) for each in range(len(STATUSES))]
        if self.over is not None:
            counts[self.over] += sum(counts[: RETRYING + 1])
            counts[WAITING] = counts[RUNNING] = counts[RETRYING] = 0
        return counts[STATUSES.index(wanted)] if wanted in STATUSES else 0

    def cells(self, most: int) -> tuple[int, list[dict[str, int]]]:
        """All members in at most so many cells of one size: how many of each are done, failed and running."""
        size = max(1, -(-len(self) // most))
        return size, [self._cell(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def _cell(self, start: int, stop: int) -> dict[str, int]:
        def count(*statuses: int) -> int:
            return sum(self.status.count(each, start, stop) for each in statuses)

        return {
            "done": count(COMPLETED),
            "failed": count(FAILED, HELD),
            "running": 0 if self.over is not None else count(RUNNING, RETRYING),
        }

    def _grow(self, size: int) -> None:
        more = min(size, MAX_MEMBERS) - len(self.status)
        if more > 0:
            self.status.extend(bytes(more))
            self.attempts.frombytes(bytes(2 * more))
            self.worker.frombytes(bytes(2 * more))
            self.started_at.frombytes(bytes(8 * more))
            self.ended_at.frombytes(bytes(8 * more))

    def _change(self, what: str, start: int, stop: int, entry: EventEntry) -> None:
        self._grow(stop)
        stop = min(stop, len(self.status))
        if start >= stop:
            return
        if what == "started":
            self._start(start, stop, entry)
        elif what == "completed":
            self._end(start, stop, COMPLETED, entry)
        elif what == "failed":
            self._fail(start, stop, entry)
        elif what == "retrying":
            self._set(start, stop, RETRYING)
            self._note_error(start, stop, entry)
        elif what == "progress":
            self._note_progress(start, entry)
        elif what in ("skipped", "cancelled"):
            self._end(start, stop, SKIPPED if what == "skipped" else CANCELLED, entry)

    def _set(self, start: int, stop: int, status: int) -> None:
        self.status[start:stop] = bytes((status,)) * (stop - start)

    def _start(self, start: int, stop: int, entry: EventEntry) -> None:
        count = stop - start
        self._set(start, stop, RUNNING)
        self.started_at[start:stop] = array("d", (entry.time,)) * count
        self._attempt(start, stop, entry)
        if worker := entry.data.get("worker"):
            self.worker[start:stop] = array("H", (self._worker(str(worker)),)) * count

    def _end(self, start: int, stop: int, status: int, entry: EventEntry) -> None:
        self._set(start, stop, status)
        self.ended_at[start:stop] = array("d", (entry.time,)) * (stop - start)
        self._attempt(start, stop, entry)
        if self.progress:
            for index in [each for each in self.progress if start <= each < stop]:
                del self.progress[index]

    def _fail(self, start: int, stop: int, entry: EventEntry) -> None:
        self._end(start, stop, HELD if entry.data.get("held") else FAILED, entry)
        self._note_error(start, stop, entry)

    def _attempt(self, start: int, stop: int, entry: EventEntry) -> None:
        if entry.attempt is not None:
            self.attempts[start:stop] = array("H", (min(entry.attempt, MAX_ATTEMPTS),)) * (stop - start)

    def _note_error(self, start: int, stop: int, entry: EventEntry) -> None:
        if entry.data.get("error_type") is None and entry.data.get("message") is None:
            return
        error = (str(entry.data.get("error_type") or ""), str(entry.data.get("message") or ""))
        for index in range(start, min(stop, start + MAX_ERRORS)):
            if index in self.errors or len(self.errors) < MAX_ERRORS:
                self.errors[index] = error

    def _note_progress(self, index: int, entry: EventEntry) -> None:
        self.progress.pop(index, None)
        self.progress[index] = {
            "fraction": entry.data.get("fraction"),
            "note": entry.data.get("note"),
            "time": entry.time,
        }
        if len(self.progress) > MAX_PROGRESS:
            del self.progress[next(iter(self.progress))]

    def _worker(self, name: str) -> int:
        if name in self.workers:
            return self.workers.index(name)
        if len(self.workers) > MAX_ATTEMPTS:
            return 0
        self.workers.append(name)
        return len(self.workers) - 1


@dataclass(slots=True)
class RunMembers:
    """All members of a run, up to `position`: the next offset of the run's partition to read."""

    position: int
    tasks: dict[Place, TaskMembers] = field(default_factory=dict)
    ended: bool = False
    _causes: dict[str, int] = field(default_factory=dict)

    def apply(self, batch: EventBatch) -> None:
        """Take in a batch; what was taken in before is left out."""
        for entry in new_entries(batch, self._causes):
            if entry.type in LAST_TYPES:
                self._end()
            elif entry.group is not None and entry.task is not None:
                self.tasks.setdefault((entry.group, entry.task), TaskMembers()).apply(entry)

    @property
    def members(self) -> int:
        """How many there are, of all tasks."""
        return sum(len(task) for task in self.tasks.values())

    def _end(self) -> None:
        self.ended = True
        for task in self.tasks.values():
            task.over = CANCELLED if task.over is None else task.over


def new_entries(batch: EventBatch, causes: dict[str, int]) -> Iterator[EventEntry]:
    """The entries of a batch that a reader has not seen; `causes` is what it has, and is brought up to date."""
    last = causes.get(batch.source, -1)
    if batch.entries:
        causes[batch.source] = max(last, batch.entries[-1].cause)
    return (entry for entry in batch.entries if entry.cause > last)


def speaks_of(entry: EventEntry, group: str, task: str, index: int | None) -> bool:
    """Whether an event is about this member; `index` None is an ordinary task's."""
    if entry.group != group or entry.task != task:
        return False
    if index is None:
        return entry.spans is None and entry.index is None
    return any(start <= index < stop for start, stop in _spans(entry))


def _spans(entry: EventEntry) -> Iterable[tuple[int, int]]:
    if entry.spans is not None:
        return entry.spans
    return () if entry.index is None else ((entry.index, entry.index + 1),)
