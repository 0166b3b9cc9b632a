"""Snapshots of the open runs of one topic: makes their records, and reads those that a rebuild starts from.

`core.snapshots` decides which snapshots count. Each service has one `RunSnapshots`, which knows how its runs are
encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from anabranch.core.snapshots import Cut, Gap, PartitionTrail, Restored, SnapshottedRun
from anabranch.core.wire.codec import Codec, Decoded, Undecodable, encode
from anabranch.core.wire.delivered_message import DeliveredMessage
from anabranch.core.wire.messages import Snapshot
from anabranch.ports import Incoming, Outgoing

MARK = b'"type":"snapshot"'
"""Part of the header of a snapshot. Its search is cheap beside decoding every record of a rebuild twice."""


class SnapshottedState(Protocol):
    """The state of a partition, as far as this module knows it."""

    @property
    def generation(self) -> int: ...

    @property
    def opened(self) -> Mapping[str, SnapshottedRun]:
        """The open runs, and what is kept like them, by run id."""

    @property
    def trail(self) -> PartitionTrail[Any]: ...


S = TypeVar("S", bound=SnapshottedState)


class RunSnapshots(Generic[S]):
    """The snapshots of one topic.

    Args:
        key_of: returns the key of a run's records.
        snapshot_of: returns the snapshot of a run, with its payload.
        decode_run: returns the run in a snapshot; raises SnapshotUnreadable.
    """

    def __init__(
        self,
        topic: str,
        codec: Codec[Any],
        *,
        key_of: Callable[[Any], str],
        snapshot_of: Callable[[S, Any], tuple[Snapshot, Sequence[bytes]]],
        decode_run: Callable[[Snapshot, Sequence[bytes]], Any],
    ) -> None:
        self._topic = topic
        self._codec = codec
        self._key_of = key_of
        self._snapshot_of = snapshot_of
        self._decode_run = decode_run

    def record_of(self, state: S, partition: int, run_id: str) -> Outgoing:
        """The record with the snapshot of an open run, for the partition that the state is of."""
        run = state.opened[run_id]
        message, payload = self._snapshot_of(state, run)
        run.trail.cut = Cut(message.upto, run.trail.bytes, run.trail.iterations)
        return Outgoing(self._topic, self._key_of(run), encode(message, payload), partition=partition)

    # --- restoring -----------------------------------------------------------------------------------

    def begin(self, state: S, offset: int) -> None:
        """Note the offset of the first record of a replay. Later calls change nothing."""
        if state.trail.begin is None:
            state.trail.begin = offset

    def may_restore(self, state: S) -> bool:
        """True until `end`: a snapshot that is read may restore its run."""
        return state.trail.strays is not None

    def end(self, state: S) -> None:
        """The records that the state is rebuilt from were read."""
        state.trail.rebuilt()

    def read(self, state: S, records: Sequence[Incoming]) -> Iterator[Gap]:
        """Decode the snapshots that a rebuild needs of these records, before the decisions about them.

        Yields the gaps between a snapshot's state and the snapshot in which the run has records, for `fill`.

        Raises:
            SnapshotUnreadable: a later release has written a snapshot. The owner must not go on: what it decided
                without the run would be published.
        """
        trail = state.trail
        self.begin(state, records[0].offset)
        for number, record in enumerate(records):
            snapshot = self._snapshot(record)
            if snapshot is None:
                continue
            message, payload = snapshot.message, snapshot.segments
            run = state.opened.get(message.run_id)
            if not trail.restores(message, record.offset, state.generation, run):
                continue
            trail.restored[record.offset] = Restored(self._decode_run(message, payload))
            if self._has_gap(trail, run, message, records[:number]):
                yield Gap(message.run_id, message.upto + 1, record.offset)

    def note_awaited(self, state: S, record: Incoming) -> None:
        """Note the run of a record that the owner has not reached, if the record is a snapshot that will restore
        the run."""
        snapshot = self._snapshot(record)
        if snapshot is not None and state.trail.restores(
            snapshot.message, record.offset, state.generation, state.opened.get(snapshot.message.run_id)
        ):
            state.trail.awaited.add(snapshot.message.run_id)

    def fill(self, state: S, gap: Gap, records: Sequence[Incoming]) -> None:
        """Take the records of a gap, of which those of other runs are left out."""
        state.trail.restored[gap.end].missed = list(self._messages(gap, records))

    def _messages(self, gap: Gap, records: Sequence[Incoming]) -> Iterator[DeliveredMessage]:
        for record in records:
            if gap.start <= record.offset < gap.end and _names(record, gap.run_id):
                try:
                    found = self._codec.decode(record.value)
                except Undecodable:
                    continue  # it became a dead letter
                if getattr(found.message, "run_id", None) == gap.run_id:
                    yield delivered(record, found)

    def _snapshot(self, record: Incoming) -> Decoded[Snapshot] | None:
        if not is_snapshot(record):
            return None
        try:
            found = self._codec.decode(record.value)
        except Undecodable:
            return None
        return found if isinstance(found.message, Snapshot) else None

    def _has_gap(
        self,
        trail: PartitionTrail[Any],
        run: SnapshottedRun | None,
        message: Snapshot,
        before: Sequence[Incoming],
    ) -> bool:
        """True if the run has records after the snapshot's state and before the snapshot."""
        if trail.last_of(message.run_id, run) > message.upto:
            return True
        return any(record.offset > message.upto and _names(record, message.run_id) for record in before)


def delivered(record: Incoming, found: Decoded[Any]) -> DeliveredMessage:
    """A decoded record, as the owner of its partition decides about it."""
    return DeliveredMessage(found.message, found.segments, record.offset, record.timestamp, len(record.value))


def is_snapshot(record: Incoming | Outgoing) -> bool:
    """True if a record may be a snapshot, which its decoded message shows."""
    return record.value.find(MARK, 0, _header_end(record.value)) >= 0


def _header_end(value: bytes) -> int:
    end = value.find(b"\n")
    return end if end >= 0 else len(value)


def _names(record: Incoming, run_id: str) -> bool:
    """True if the header of a record may name a run: most records are of other runs, and need no decoding."""
    return record.value.find(run_id.encode(), 0, _header_end(record.value)) >= 0
