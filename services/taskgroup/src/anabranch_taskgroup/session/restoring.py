"""Takes a run out of a snapshot into the state of a rebuild. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.core.json_documents import dumps
from anabranch.core.names import session_key
from anabranch.core.retention import ttl_for
from anabranch.core.wire.messages import Json, Snapshot
from anabranch.core.wire.results import has_mark
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.turn import StoreMissing, Turn


def restore(turn: Turn, run: Run, snapshot: Snapshot, size: int) -> None:
    """Put a run that was read from a snapshot in the place of what the state has of it.

    The state may have an early stop: a stop of the run that was read before the snapshot, and that the run in the
    snapshot has obeyed. It may have the run as a repetition of its opening opened it.

    Args:
        size: bytes of the snapshot.
    """
    partition = turn.partition
    partition.forget(run.run_id)
    partition.tombstones.pop(run.run_id, None)
    partition.runs[run.run_id] = run
    if run.conditions:
        partition.condition_runs.setdefault(run.session_id, set()).add(run.run_id)
    partition.trail.opened(run, snapshot.upto + 1, turn.at, partition.runs)
    run.trail.last, run.trail.touched_at, run.trail.size = snapshot.upto, snapshot.touched_at, size
    partition.arm(run)
    values = tuple((session_key(run.session_id, key), dumps(value)) for key, value in _public_values(run))
    if values:
        turn.effects.append(StoreMissing(values, ttl_for(run.deadline, turn.at, turn.config.result_ttl)))


def _public_values(run: Run) -> Iterator[tuple[str, Json]]:
    """The values that the run has published under its session's keys, without references: their pages cannot be
    restored. Keys with a policy have values of other runs in them."""
    for key, value in run.context.items():
        if key not in run.shared and not has_mark(value):
            yield key, value
    for group in run.groups.values():
        for key, document in group.results.items():
            is_published = key in run.derived or isinstance(run.values.get(key), Value)
            if is_published and key not in run.shared and not has_mark(document):
                yield key, document
