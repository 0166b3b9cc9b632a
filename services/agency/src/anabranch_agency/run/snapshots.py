"""Encodes the state of an open run for a snapshot, and decodes it. Pure.

The fields of the state classes are encoded by their types (`core.state_codec`).

`STATE_VERSION` has to be raised by a change that an older release would misread: a field that changes its meaning.
A new field needs no other version, because a release that does not know it refuses the document.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from anabranch.core.event_addresses import is_event_address
from anabranch.core.limit_addresses import is_limit_address
from anabranch.core.schedules.addresses import is_schedule_address
from anabranch.core.snapshots import read_snapshot, snapshot_message
from anabranch.core.state_codec import StateCodec
from anabranch.core.wire.messages import Snapshot
from anabranch_agency.run.event_state import EventAddress
from anabranch_agency.run.limit_state import LimitAddress
from anabranch_agency.run.schedule_state import ScheduleState
from anabranch_agency.run.state import Address, PartitionState, Run, RunState

STATE_VERSION = 1
CODEC: StateCodec[RunState] = StateCodec(RunState, skipped=frozenset(((Run, "trail"),)))
_NO_STATE = frozenset((EventAddress, name) for name in ("trail", "numbers", "cursors"))
ADDRESSES: StateCodec[EventAddress] = StateCodec(EventAddress, skipped=_NO_STATE)
LIMITS: StateCodec[LimitAddress] = StateCodec(LimitAddress, skipped=frozenset(((LimitAddress, "trail"),)))

_NOT_KEPT = frozenset((ScheduleState, name) for name in ("trail", "parsed"))
SCHEDULES: StateCodec[ScheduleState] = StateCodec(ScheduleState, skipped=_NOT_KEPT)


def snapshot_of(partition: PartitionState, run: Run | Address) -> tuple[Snapshot, list[bytes]]:
    """The snapshot of an open run, or of an address of events, a limit or a schedule, with its payload, after all
    records that the partition's state has."""
    message = snapshot_message(
        run, generation=partition.generation, upto=partition.trail.position, version=STATE_VERSION
    )
    if isinstance(run, EventAddress):
        return message, encode_address(run)
    if isinstance(run, LimitAddress):
        return message, encode_limit(run)
    if isinstance(run, ScheduleState):
        return message, encode_schedule(run)
    return message, encode_run(RunState(run, dict(partition.observed.get(run.run_id, {}))))


def encode_run(state: RunState) -> list[bytes]:
    """The payload of a snapshot: the document of the run's state, then its byte strings."""
    document, blobs = CODEC.write(state)
    return [orjson.dumps(document), *blobs]


def encode_address(address: EventAddress) -> list[bytes]:
    """The payload of a snapshot of an address of events."""
    document, blobs = ADDRESSES.write(address)
    return [orjson.dumps(document), *blobs]


def encode_limit(address: LimitAddress) -> list[bytes]:
    """The payload of a snapshot of a limit."""
    document, blobs = LIMITS.write(address)
    return [orjson.dumps(document), *blobs]


def encode_schedule(schedule: ScheduleState) -> list[bytes]:
    """The payload of a snapshot of a schedule."""
    document, blobs = SCHEDULES.write(schedule)
    return [orjson.dumps(document), *blobs]


def decode_run(snapshot: Snapshot, payload: Sequence[bytes]) -> RunState | Address:
    """The run, or the address, in a snapshot.

    Raises:
        SnapshotUnreadable: the snapshot is of a later release, or damaged.
    """
    if is_event_address(snapshot.run_id):
        return read_snapshot(snapshot, payload, of="address", version=STATE_VERSION, read=ADDRESSES.read)
    if is_limit_address(snapshot.run_id):
        return read_snapshot(snapshot, payload, of="limit", version=STATE_VERSION, read=LIMITS.read)
    if is_schedule_address(snapshot.run_id):
        return read_snapshot(snapshot, payload, of="schedule", version=STATE_VERSION, read=SCHEDULES.read)
    return read_snapshot(snapshot, payload, of="run", version=STATE_VERSION, read=CODEC.read)
