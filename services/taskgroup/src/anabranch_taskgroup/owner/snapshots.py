"""The snapshots of the runs of a session, for the owner and for tools that read the topic `groups`."""

from __future__ import annotations

from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS
from anabranch.runtime.ownership.snapshots import RunSnapshots
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.snapshots import decode_run, snapshot_of


def session_snapshots(names: Names) -> RunSnapshots[PartitionState]:
    """The snapshots on the topic `groups`."""
    return RunSnapshots(
        names.groups,
        GROUPS,
        key_of=lambda run: str(run.session_id),
        snapshot_of=snapshot_of,
        decode_run=decode_run,
    )
