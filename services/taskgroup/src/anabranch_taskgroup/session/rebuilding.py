"""What a new owner of a session drops once it has rebuilt the state of the last commit. Pure."""

from __future__ import annotations

from anabranch_taskgroup.session.known_runs import ENDED
from anabranch_taskgroup.session.partition import PartitionState


def drop_ended(partition: PartitionState, open_from: int) -> None:
    """Drop the runs whose pin is before offset `open_from`: they had ended before the commit.

    Such a run is open here where only a repetition of its opening was read, and the store no longer says that it
    ended. Its members would be called again, and would overwrite the values that it has.
    """
    for run in [each for each in partition.runs.values() if each.trail.pin < open_from]:
        partition.forget(run.run_id)
        # Only repetitions of this opening have to find the tombstone: they have the same time of submission.
        partition.add_tombstone(run.run_id, ENDED, run.admission, run.submitted_at)
        partition.drop("run that had ended, opened by a repetition")
