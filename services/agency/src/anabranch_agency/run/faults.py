"""What follows where a record of the topic `runs` cannot be decided about. Pure.

A request that was being admitted is refused. Any other record is part of an open run: the run ends as failed, with
that as the reason.
"""

from __future__ import annotations

from anabranch.core.errors import Code, Problem
from anabranch.core.wire.messages import FailRun, Message, SubmitRun
from anabranch.ports import Incoming
from anabranch_agency.run.ending import fail
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DecisionConfig, Turn, refuse

FAULT = "InternalError"


def give_up(
    rules: DecisionConfig, partition: PartitionState, message: Message, record: Incoming, why: str
) -> Turn:
    """The turn that takes the place of the one that failed."""
    turn = Turn(rules, partition, record.offset, record.timestamp)
    partition.drop("record that met a bug")
    if isinstance(message, SubmitRun):
        _refuse(turn, message, why)
    else:
        _fail(turn, message, record, why)
    return turn


def _refuse(turn: Turn, submit: SubmitRun, why: str) -> None:
    run = turn.partition.runs.get(submit.run_id)
    if run is not None and run.tombstone.offset == turn.position:
        del turn.partition.runs[submit.run_id]
    problem = Problem(Code.INTERNAL, "", why[:2_000], "this is a fault of the agency: its log has the traceback")
    refuse(turn, submit, [problem], submit.warnings)


def _fail(turn: Turn, message: Message, record: Incoming, why: str) -> None:
    """Where the run is being stopped for a fault already, nothing more is waited for."""
    run = turn.partition.runs.get(getattr(message, "run_id", ""))
    if run is None:
        return
    place = f"{record.topic}/{record.partition}, offset {record.offset}"
    reason = f"a record of the run was given up ({place}): {why}"[:2_000]
    fault = FailRun(run_id=run.run_id, error_type=FAULT, message=reason, abandoned=run.fault)
    fail(turn, run, fault)
