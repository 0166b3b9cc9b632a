"""The snapshots of the Agency's runs, for the owner and for tools that read the topic `runs`."""

from __future__ import annotations

from anabranch.core.names import Names
from anabranch.core.wire.codec import RUNS
from anabranch.runtime.ownership.snapshots import RunSnapshots
from anabranch_agency.run.snapshots import decode_run, snapshot_of
from anabranch_agency.run.state import PartitionState


def run_snapshots(names: Names) -> RunSnapshots[PartitionState]:
    """The snapshots on the topic `runs`."""
    return RunSnapshots(
        names.runs,
        RUNS,
        key_of=lambda run: str(run.run_id),
        snapshot_of=snapshot_of,
        decode_run=decode_run,
    )
