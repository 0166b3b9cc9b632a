"""Which snapshots of open runs count, and from where a replay restores each run. Pure.

The owner of a partition appends a **snapshot** of a run to it: the run's state after the record at `upto`. A
replay that begins after the record which opened the run takes the state from there, and applies the records of the
run after `upto`. So the run no longer needs the records before: its **pin**, the offset from which a replay
restores it, moves to `upto` + 1.

A snapshot is a statement about the log: the state is a fold over the partition, so every process that has read the
partition up to `upto` has the same state, whether or not it still owns the partition. What has to be checked is
only that the reader of a snapshot knows all records of the run after `upto`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any, Generic, Protocol, TypeVar

import orjson

from anabranch.core.errors import AnabranchError
from anabranch.core.state_codec import UnknownField
from anabranch.core.wire.delivered_message import DeliveredMessage
from anabranch.core.wire.messages import Snapshot

R = TypeVar("R")

SPARE_PINS = 64
"""Stale pins that the heap may hold, beyond four for each run, before it is rebuilt."""
LEAST_BEHIND = 64_000_000
"""Bytes of a partition between a run's pin and the end of the log before the run gets another snapshot. It bounds
the bytes that a takeover reads, however long a run is idle."""
BEHIND_FACTOR = 4
"""The same, as a multiple of the bytes of all snapshots of the partition's open runs: repeated snapshots add at
most a quarter to the log."""


class SnapshotUnreadable(AnabranchError):
    """A snapshot that this release cannot read: the partition needs an owner of the release that wrote it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What a trail had when a snapshot was made. Records of the run between the state in the snapshot and the
    snapshot count towards the next one."""

    upto: int
    bytes: int
    iterations: int


@dataclass(slots=True)
class RunTrail:
    """What the log has of an open run. Kept by the fold, but not a part of the run's state."""

    pin: int = 0
    """Offset from which a replay restores the run: that of the record which opened it, or of the first record that
    its last snapshot does not cover."""
    last: int = -1
    """Offset of the run's last record."""
    touched_at: float = 0.0
    """Timestamp of the last record that may have changed the run, in seconds since the epoch."""
    since: float = 0.0
    """Timestamp of the last snapshot, or of the record that opened the run."""
    bytes: int = 0
    """Bytes of the run's records since then that may have changed it. Further measures of work, which a snapshot
    resets, belong here."""
    iterations: int = 0
    """Iterations of loops since then."""
    mark: int = 0
    """Bytes that had been read of the partition then; see `PartitionTrail.bytes`."""
    size: int = 0
    """Bytes of the last snapshot; 0 if there is none."""
    cut: Cut | None = None
    """Of the last snapshot that this process made, until it is read."""


class SnapshottedRun(Protocol):
    """The state of an open run, as far as this module knows it."""

    @property
    def run_id(self) -> str: ...

    @property
    def admission(self) -> int: ...

    @property
    def opened_at_offset(self) -> int: ...

    @property
    def trail(self) -> RunTrail: ...


def snapshot_message(run: SnapshottedRun, *, generation: int, upto: int, version: int) -> Snapshot:
    """The message of a snapshot of an open run, whose payload has the run's state in a `version` of its encoding.

    Args:
        generation: of the log.
        upto: offset of the last record that the state has.
    """
    return Snapshot(
        run_id=run.run_id,
        admission=run.admission,
        generation=generation,
        opened_at=run.opened_at_offset,
        upto=upto,
        version=version,
        touched_at=run.trail.touched_at,
    )


def read_snapshot(
    snapshot: Snapshot,
    payload: Sequence[bytes],
    *,
    of: str,
    version: int,
    read: Callable[[Any, Sequence[bytes]], R],
) -> R:
    """Read the state in a snapshot.

    Args:
        payload: the document of the state, then its byte strings.
        of: what has the state, for error messages.
        version: that of the encoding that `read` reads.
        read: makes the state of the parsed document and the byte strings.

    Raises:
        SnapshotUnreadable: the snapshot is of a later release, or damaged.
    """
    if snapshot.version != version:
        raise SnapshotUnreadable(
            f"the snapshot of run {snapshot.run_id} has version {snapshot.version} of a {of}'s state, "
            f"this release reads version {version}"
        )
    try:
        document, *blobs = payload
        return read(orjson.loads(document), blobs)
    except (UnknownField, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotUnreadable(
            f"the snapshot of run {snapshot.run_id} cannot be read: {type(error).__name__}: {error}"
        ) from error


@dataclass(slots=True)
class Restored(Generic[R]):
    """A run out of a snapshot, with the messages of the run between the snapshot's state and the snapshot."""

    run: R
    missed: Sequence[DeliveredMessage] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """Records of a run from offset `start` on that have to be read again for the snapshot at offset `end`."""

    run_id: str
    start: int
    end: int


@dataclass(slots=True)
class PartitionTrail(Generic[R]):
    """How far a partition was read, and from where its runs are restored.

    Args:
        strays: not None in a rebuild: the offset of the last record of each run that is not in the state.
    """

    begin: int | None = None
    """Offset of the first record that was read."""
    position: int = -1
    """Offset of the last record that was read."""
    bytes: int = 0
    """Bytes of the records that were read."""
    strays: dict[str, int] | None = None
    awaited: set[str] = field(default_factory=set)
    """Runs that a later snapshot will restore. The log lacks the records that opened them, and may have other
    records of them before the snapshot."""
    restored: dict[int, Restored[R]] = field(default_factory=dict)
    """By offset of a snapshot: the run in it, read before the decision about the record."""
    pins: list[tuple[int, str]] = field(default_factory=list)
    """Heap of pins. An entry that is not the pin of an open run is stale."""

    def opened(self, run: SnapshottedRun, offset: int, at: float, runs: Mapping[str, SnapshottedRun]) -> None:
        """A run was opened by the record at an offset, with timestamp `at`."""
        trail = run.trail
        trail.pin, trail.since, trail.touched_at, trail.mark = offset, at, at, self.bytes
        self._push(run, runs)

    def snapshotted(
        self, run: SnapshottedRun, snapshot: Snapshot, at: float, size: int, runs: Mapping[str, SnapshottedRun]
    ) -> None:
        """A snapshot of an open run counts: its pin moves, but never back."""
        trail = run.trail
        cut = trail.cut
        if cut is not None and cut.upto <= snapshot.upto:
            trail.cut = None
        if trail.pin >= snapshot.upto + 1:
            return
        trail.pin, trail.since, trail.mark, trail.size = snapshot.upto + 1, at, self.bytes, size
        if trail.last <= snapshot.upto:
            trail.bytes = trail.iterations = 0
        elif cut is not None and cut.upto == snapshot.upto:
            trail.bytes, trail.iterations = trail.bytes - cut.bytes, trail.iterations - cut.iterations
        self._push(run, runs)

    def oldest(self, runs: Mapping[str, SnapshottedRun]) -> int | None:
        """The lowest pin of the open runs; None if no run is open."""
        pins = self.pins
        while pins:
            pin, run_id = pins[0]
            run = runs.get(run_id)
            if run is not None and run.trail.pin == pin:
                return pin
            heappop(pins)
        return None

    def rebuilt(self) -> None:
        """The records that the state is rebuilt from were read: no snapshot restores a run from here on."""
        self.strays = None
        self.awaited.clear()
        self.restored.clear()

    # --- restoring -----------------------------------------------------------------------------------

    def counts(self, snapshot: Snapshot, offset: int, generation: int) -> bool:
        """True if a snapshot at an offset describes this partition: one of an earlier life of the topic does
        not."""
        return snapshot.generation == generation and snapshot.upto < offset

    def restores(self, snapshot: Snapshot, offset: int, generation: int, run: SnapshottedRun | None) -> bool:
        """True if a run has to be taken from a snapshot at an offset, and can be.

        Args:
            run: the run in the state; None if it is not open there. If another record than the snapshot's has
                opened it, that one was a repetition: the first one was not read.
        """
        if self.strays is None or self.begin is None or not self.counts(snapshot, offset, generation):
            return False
        if run is not None and run.opened_at_offset == snapshot.opened_at:
            return False
        # The record that opened the run was not read, and all of its records after `upto` were.
        return snapshot.opened_at < self.begin <= snapshot.upto + 1

    def last_of(self, run_id: str, run: SnapshottedRun | None) -> int:
        """Offset of the last record of a run that was read; -1 if there was none."""
        stray = self.strays.get(run_id, -1) if self.strays is not None else -1
        return stray if run is None else max(stray, run.trail.last)

    # --- pins ----------------------------------------------------------------------------------------

    def _push(self, run: SnapshottedRun, runs: Mapping[str, SnapshottedRun]) -> None:
        heappush(self.pins, (run.trail.pin, run.run_id))
        if len(self.pins) > SPARE_PINS + 4 * len(runs):
            self.pins = [(each.trail.pin, run_id) for run_id, each in runs.items()]
            heapify(self.pins)


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When a run gets a snapshot. Times in seconds.

    Attributes:
        idle: after so long without a record that may have changed it.
        interval: at least so often while it works.
        bytes: after so many bytes of its records.
        iterations: after so many iterations of its loops.
        retention: how long the topic keeps records; None for ever. A snapshot is repeated after half of it.
    """

    idle: float = 600.0
    interval: float = 21_600.0
    bytes: int = 10_000_000
    iterations: int = 1_000
    retention: float | None = None

    def is_due(self, trail: RunTrail, now: float, behind: int, most_behind: int) -> bool:
        """True if a run should get a snapshot now.

        Args:
            now: the log's time, in seconds since the epoch.
            behind: bytes of the partition that were read since the run's last snapshot.
            most_behind: bytes from which on the snapshot is repeated; see `most_behind`.
        """
        if trail.bytes:
            if now - trail.touched_at >= self.idle or now - trail.since >= self.interval:
                return True
            if trail.bytes >= self.bytes or trail.iterations >= self.iterations:
                return True
        if self.retention is not None and now - trail.since >= self.retention / 2:
            return True
        return behind >= most_behind


def most_behind(snapshot_bytes: int) -> int:
    """Bytes between a run's pin and the end of the log after which its snapshot is repeated, in a partition whose
    open runs have snapshots of so many bytes together."""
    return max(LEAST_BEHIND, BEHIND_FACTOR * snapshot_bytes)
