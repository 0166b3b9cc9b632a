"""Projects the events of a run onto the states of its members: about 20 bytes each, so a run may have a million.

Pure and idempotent: a batch that is applied again changes nothing. Members are numbered from 0; an ordinary task
has one member, 0.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.core.wire.usage import USAGE, usage_at
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
# The order counts: a status up to RETRYING is open, and 0 has to be WAITING for `_grow`.
WAITING, RUNNING, RETRYING, COMPLETED, FAILED, HELD, CANCELLED, SKIPPED = range(len(STATUSES))
MAX_MEMBERS = 2_000_000
"""Maximum members of one task; events about higher indexes are ignored."""
MAX_ERRORS = 10_000
"""Maximum members of one task whose error is kept: those that failed first."""
MAX_PROGRESS = 1_000
MAX_USAGE = 100_000
"""Maximum members of one task whose processor time and memory are kept."""
# The largest value of array("H"), which also limits the number of workers.
MAX_ATTEMPTS = 65_535

TaskKey = tuple[str, str]
"""Group and task."""


class TaskMembers:
    """The members of one task, in parallel arrays that are indexed by member.

    `total` is None until the number of members is known. An object for each member would take far more memory.
    """

    def __init__(self, iteration: tuple[int, ...] = ()) -> None:
        self.iteration = iteration
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
        self.usage: dict[int, dict[str, Any]] = {}
        """What the last attempt of a member used, of the first `MAX_USAGE` members that were measured."""
        self.final_status: int | None = None
        """Status of all members without an outcome, once the task has ended; None before."""

    def __len__(self) -> int:
        return len(self.status)

    def apply(self, entry: EventEntry) -> None:
        """Apply one event to the members that it is about."""
        action = entry.type.partition(".")[2]
        if action == "waiting":
            return  # the task waits for an agent: no member has changed
        # The events of a task have three forms: about its expansion, about spans of members, about the whole
        # task.
        if action == "expanded":
            self.expanded = True
            self.total = entry.data.get("count")
            self._grow(self.total or 0)
        elif action == "joined":
            self.final_status = CANCELLED
        elif entry.spans is not None or entry.index is not None:
            self.expanded = True
            for start, stop in _spans(entry):
                self._change(action, start, stop, entry)
        elif action in ("skipped", "cancelled") or (action == "failed" and self.expanded):
            self.final_status = SKIPPED if action == "skipped" else CANCELLED
        else:
            self.total = 1
            self._change(action, 0, 1, entry)

    def status_of(self, index: int) -> MemberStatus:
        """The status of a member."""
        # The end of a task closes its open members without an event for each of them.
        status = self.status[index]
        return STATUSES[self.final_status if self.final_status is not None and status <= RETRYING else status]

    def is_completed(self, index: int) -> bool:
        """True if a member exists and has completed."""
        # A slice, because an index beyond the members must not raise.
        return self.status[index : index + 1] == bytes((COMPLETED,))

    def page(self, start: int, limit: int, wanted: str | None) -> list[int]:
        """Up to `limit` indexes from `start` on of members with the status `wanted`, or of all for None."""
        found = []
        for index in range(start, len(self)):
            if wanted is None or self.status_of(index) == wanted:
                found.append(index)
                if len(found) == limit:
                    break
        return found

    def count(self, wanted: str | None) -> int:
        """The number of members with the status `wanted`, or of all for None."""
        if wanted is None:
            return len(self)
        counts = [self.status.count(each) for each in range(len(STATUSES))]
        if self.final_status is not None:
            counts[self.final_status] += sum(counts[: RETRYING + 1])
            counts[WAITING] = counts[RUNNING] = counts[RETRYING] = 0
        return counts[STATUSES.index(wanted)] if wanted in STATUSES else 0

    def cells(self, max_cells: int) -> tuple[int, list[dict[str, int]]]:
        """Counts the members in cells of equal size, at most `max_cells`.

        Returns:
            The members for each cell, and the number of done, failed and running members of each.
        """
        size = max(1, -(-len(self) // max_cells))
        return size, [self._cell(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def _cell(self, start: int, stop: int) -> dict[str, int]:
        def count(*statuses: int) -> int:
            return sum(self.status.count(each, start, stop) for each in statuses)

        return {
            "done": count(COMPLETED),
            "failed": count(FAILED, HELD),
            "running": 0 if self.final_status is not None else count(RUNNING, RETRYING),
        }

    def _grow(self, size: int) -> None:
        more = min(size, MAX_MEMBERS) - len(self.status)
        if more > 0:
            # Zero bytes are the initial state in each array: waiting, no attempt, no worker, no time.
            self.status.extend(bytes(more))
            self.attempts.frombytes(bytes(2 * more))
            self.worker.frombytes(bytes(2 * more))
            self.started_at.frombytes(bytes(8 * more))
            self.ended_at.frombytes(bytes(8 * more))

    def _change(self, action: str, start: int, stop: int, entry: EventEntry) -> None:
        self._grow(stop)
        stop = min(stop, len(self.status))
        if start >= stop:
            return
        if action == "started":
            self._start(start, stop, entry)
        elif action == "completed":
            self._end(start, stop, COMPLETED, entry)
        elif action == "failed":
            self._fail(start, stop, entry)
        elif action == "retrying":
            self._set(start, stop, RETRYING)
            self._set_error(start, stop, entry)
        elif action == "progress":
            self._set_progress(start, entry)
        elif action in ("skipped", "cancelled"):
            self._end(start, stop, SKIPPED if action == "skipped" else CANCELLED, entry)

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
        if USAGE in entry.data or "cpu_seconds" in entry.data:
            self._set_usage(entry)
        self.ended_at[start:stop] = array("d", (entry.time,)) * (stop - start)
        self._attempt(start, stop, entry)
        if self.progress:
            for index in [each for each in self.progress if start <= each < stop]:
                del self.progress[index]

    def _fail(self, start: int, stop: int, entry: EventEntry) -> None:
        self._end(start, stop, HELD if entry.data.get("held") else FAILED, entry)
        self._set_error(start, stop, entry)

    def _attempt(self, start: int, stop: int, entry: EventEntry) -> None:
        if entry.attempt is not None:
            self.attempts[start:stop] = array("H", (min(entry.attempt, MAX_ATTEMPTS),)) * (stop - start)

    def _set_error(self, start: int, stop: int, entry: EventEntry) -> None:
        if entry.data.get("error_type") is None and entry.data.get("message") is None:
            return
        error = (str(entry.data.get("error_type") or ""), str(entry.data.get("message") or ""))
        for index in range(start, min(stop, start + MAX_ERRORS)):
            if index in self.errors or len(self.errors) < MAX_ERRORS:
                self.errors[index] = error

    def _set_usage(self, entry: EventEntry) -> None:
        indexes = (index for start, stop in _spans(entry) or ((0, 1),) for index in range(start, stop))
        for place, index in enumerate(indexes):
            if index < len(self.status) and (index in self.usage or len(self.usage) < MAX_USAGE):
                self.usage[index] = usage_at(entry.data, place)

    def _set_progress(self, index: int, entry: EventEntry) -> None:
        # Moved to the end: above the limit the member that reported least recently is dropped.
        self.progress.pop(index, None)
        self.progress[index] = {
            "fraction": entry.data.get("fraction"),
            "note": entry.data.get("note"),
            "time": entry.time,
        }
        if len(self.progress) > MAX_PROGRESS:
            del self.progress[next(iter(self.progress))]

    def _worker(self, name: str) -> int:
        # Members refer to workers by number, because a name for each member would take most of the memory.
        if name in self.workers:
            return self.workers.index(name)
        if len(self.workers) > MAX_ATTEMPTS:
            return 0
        self.workers.append(name)
        return len(self.workers) - 1


@dataclass(slots=True)
class RunMembers:
    """The members of all tasks of a run, up to `position`: the next offset of the run's partition to apply."""

    position: int
    tasks: dict[TaskKey, TaskMembers] = field(default_factory=dict)
    ended: bool = False
    _causes: dict[str, int] = field(default_factory=dict)

    def apply(self, batch: EventBatch) -> None:
        """Apply the new entries of a batch; entries that were applied before are skipped."""
        for entry in new_entries(batch, self._causes):
            if entry.type in LAST_TYPES:
                self._end()
            elif entry.group is not None and entry.task is not None:
                self._apply_to_task((entry.group, entry.task), entry)

    def _apply_to_task(self, key: TaskKey, entry: EventEntry) -> None:
        if entry.type.startswith("iteration."):
            return  # a loop has no members of its own
        task = self.tasks.get(key)
        # Of a task in a loop, the members of the last iteration.
        if task is None or entry.iteration > task.iteration:
            task = self.tasks[key] = TaskMembers(entry.iteration)
        if entry.iteration == task.iteration:
            task.apply(entry)

    @property
    def members(self) -> int:
        """The number of members of all tasks."""
        return sum(len(task) for task in self.tasks.values())

    def _end(self) -> None:
        self.ended = True
        for task in self.tasks.values():
            task.final_status = CANCELLED if task.final_status is None else task.final_status


def new_entries(batch: EventBatch, causes: dict[str, int]) -> Iterator[EventEntry]:
    """The entries of a batch that a reader has not seen.

    Args:
        causes: the last cause by source that the reader has seen; this call updates it.
    """
    # An owner that repeats a turn after a crash publishes the same entries again, under the same causes.
    last = causes.get(batch.source, -1)
    if batch.entries:
        causes[batch.source] = max(last, batch.entries[-1].cause)
    return (entry for entry in batch.entries if entry.cause > last)


def is_about(entry: EventEntry, group: str, task: str, index: int | None) -> bool:
    """True if an event is about this member; `index` is None for the member of an ordinary task."""
    if entry.group != group or entry.task != task:
        return False
    if index is None:
        return entry.spans is None and entry.index is None
    return any(start <= index < stop for start, stop in _spans(entry))


def _spans(entry: EventEntry) -> Iterable[tuple[int, int]]:
    if entry.spans is not None:
        return entry.spans
    return () if entry.index is None else ((entry.index, entry.index + 1),)
