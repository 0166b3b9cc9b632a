"""What happens if a record of the topic `runs` cannot be processed. Pure.

A submitted request is refused. Any other record belongs to an open run, which ends as failed with the reason.
"""

from __future__ import annotations

from anabranch.core.errors import Code, Problem
from anabranch.core.wire.messages import FailRun, Message, SubmitChild, SubmitRun
from anabranch.ports import Incoming
from anabranch_agency.run.child_answers import answer_end, reject_child
from anabranch_agency.run.ending import fail
from anabranch_agency.run.firing_answers import reject_firing
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DecisionConfig, Turn, refuse

FAULT = "InternalError"


def abandon(
    config: DecisionConfig, partition: PartitionState, message: Message, record: Incoming, why: str
) -> Turn:
    """The turn that replaces the one that failed."""
    turn = Turn(config, partition, record.offset, record.timestamp)
    partition.drop("record that hit a bug")
    if isinstance(message, SubmitRun):
        _refuse(turn, message, why)
    elif isinstance(message, SubmitChild):
        answer_end(turn, message.run_id, message.parent, "rejected", why[:2_000])
    else:
        _fail(turn, message, record, why)
    return turn


def _refuse(turn: Turn, submit: SubmitRun, why: str) -> None:
    run = turn.partition.runs.get(submit.run_id)
    # The decision failed halfway, after it had opened the run that is now refused.
    if run is not None and run.tombstone.offset == turn.position:
        del turn.partition.runs[submit.run_id]
    problem = Problem(Code.INTERNAL, "", why[:2_000], "this is a fault of the agency: its log has the traceback")
    refuse(turn, submit, [problem], submit.warnings)
    reject_child(turn, submit, str(problem))
    reject_firing(turn, submit, str(problem))


def _fail(turn: Turn, message: Message, record: Incoming, why: str) -> None:
    """Fail the run of a record. If the run is already being stopped because of a fault, it ends at once."""
    run = turn.partition.runs.get(getattr(message, "run_id", ""))
    if run is None:
        return
    place = f"{record.topic}/{record.partition}, offset {record.offset}"
    reason = f"a record of the run could not be processed ({place}): {why}"[:2_000]
    fault = FailRun(run_id=run.run_id, error_type=FAULT, message=reason, abandoned=run.fault)
    fail(turn, run, fault)
