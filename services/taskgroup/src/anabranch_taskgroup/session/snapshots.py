"""Encodes the state of an open run for a snapshot, and decodes it. Pure.

The fields of the state classes are encoded by their types (`core.state_codec`). Here is what the types do not say:
a run refers to its tasks from several places, which is encoded as [group, task].

`STATE_VERSION` has to be raised by a change that an older release would misread: a field that changes its meaning,
or the field of a run that says which tasks wait. A new field needs no other version, because a release that does
not know it refuses the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anabranch.core.snapshots import read_snapshot, snapshot_message
from anabranch.core.state_codec import StateCodec
from anabranch.core.wire.messages import Snapshot
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import LoopState, Task
from anabranch_taskgroup.session.timers import Timer, TimerKind, Timers

STATE_VERSION = 1


def _write_timers(timers: Timers, blobs: list[bytes]) -> list[Any]:
    return [[at, timer.kind.value, timer.group, timer.task] for timer, at in timers.entries()]


def _read_timers(document: Any, blobs: Sequence[bytes]) -> Timers:
    timers = Timers()
    for at, kind, group, task in document:
        timers.schedule(Timer(TimerKind(kind), group, task), at)
    return timers


_TASKS = frozenset(((Run, "waiters"), (Run, "producers")))
"""Fields that refer to tasks of the run."""
_WAITERS = frozenset(((LoopState, "waiters"),))
_TRAIL = frozenset(((Run, "trail"),))
"""The trail says which records of the run are on the log; it is not part of the state."""
CODEC: StateCodec[Run] = StateCodec(
    Run, special={(Run, "timers"): (_write_timers, _read_timers)}, skipped=_TASKS | _WAITERS | _TRAIL
)


def snapshot_of(partition: PartitionState, run: Run) -> tuple[Snapshot, list[bytes]]:
    """The snapshot of an open run with its payload, after all records that the partition's state has."""
    message = snapshot_message(
        run, generation=partition.generation, upto=partition.trail.position, version=STATE_VERSION
    )
    return message, encode_run(run)


def encode_run(run: Run) -> list[bytes]:
    """The payload of a snapshot: the document of the run's state, then its byte strings."""
    document, blobs = CODEC.write(run)
    document["waiters"] = _places(run.waiters)
    document["producers"] = {key: _place(task) for key, task in run.producers.items()}
    scopes = {
        group.name: {
            task.name: _places(task.loop.waiters)
            for task in group.tasks.values()
            if task.loop is not None and task.loop.waiters
        }
        for group in run.groups.values()
    }
    if any(scopes.values()):
        document["scopes"] = scopes
    return [orjson.dumps(document), *blobs]


def decode_run(snapshot: Snapshot, payload: Sequence[bytes]) -> Run:
    """The run in a snapshot.

    Raises:
        SnapshotUnreadable: the snapshot is of a later release, or damaged.
    """
    return read_snapshot(snapshot, payload, of="session", version=STATE_VERSION, read=_read)


def _read(document: Any, blobs: Sequence[bytes]) -> Run:
    waiters, producers, scopes = document.pop("waiters"), document.pop("producers"), document.pop("scopes", {})
    run = CODEC.read(document, blobs)
    run.waiters = {key: [_task(run, place) for place in places] for key, places in waiters.items()}
    run.producers = {key: _task(run, place) for key, place in producers.items()}
    for group, loops in scopes.items():
        for name, waiting in loops.items():
            loop = run.groups[group].tasks[name].loop
            if loop is None:
                raise ValueError(f"{group}/{name} is no loop that has begun")
            loop.waiters = {key: [_task(run, place) for place in places] for key, places in waiting.items()}
    return run


def _places(waiters: Mapping[str, Sequence[Task]]) -> dict[str, list[list[str]]]:
    return {key: [_place(task) for task in tasks] for key, tasks in waiters.items()}


def _place(task: Task) -> list[str]:
    return [task.group, task.name]


def _task(run: Run, place: Sequence[str]) -> Task:
    group, name = place
    return run.groups[group].tasks[name]
