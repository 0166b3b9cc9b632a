"""Delivers messages that are addressed to one step of a run to the step's kind. Pure."""

from __future__ import annotations

from anabranch.core.wire.child_messages import ChildMessage
from anabranch.core.wire.messages import (
    ArrayCounted,
    ConditionJudged,
    LoopItems,
    LoopTaken,
    Message,
    TaskUnserved,
    WaitsRendered,
)
from anabranch_taskgroup.session.known_runs import has_admission
from anabranch_taskgroup.session.lifecycle import take_judgement
from anabranch_taskgroup.session.steps import sub_run
from anabranch_taskgroup.session.steps import task as task_kind
from anabranch_taskgroup.session.steps import wait as wait_kind
from anabranch_taskgroup.session.steps.kind import Signal, Step
from anabranch_taskgroup.session.steps.registry import kind_of
from anabranch_taskgroup.session.turn import Turn

SIGNALS: tuple[type[Message], ...] = (
    *task_kind.SIGNALS,
    *wait_kind.SIGNALS,
    *sub_run.SIGNALS,
    ConditionJudged,
    LoopItems,
    LoopTaken,
)
"""The types of messages that are addressed to one step."""
_ADMITTED = (ArrayCounted, WaitsRendered, ChildMessage, ConditionJudged, LoopItems, TaskUnserved)


def deliver(turn: Turn, signal: Signal, segments: tuple[bytes, ...]) -> None:
    """Deliver a signal to its step. One of another admission of the run, or of a run that is not open, is
    dropped."""
    run = turn.partition.runs.get(signal.run_id)
    # Only these name their admission: that of the others is in the fences of their chunks.
    if run is not None and isinstance(signal, _ADMITTED) and not has_admission(run, signal.admission):
        run = None
    group = run.groups.get(signal.group) if run is not None else None
    task = group.tasks.get(signal.task) if group is not None else None
    if run is None or group is None or task is None:
        turn.partition.drop("message for a run that is not open")
        return
    if isinstance(signal, ConditionJudged):
        take_judgement(turn, Step(run, group, task), signal)
        return
    kind_of(task).on_signal(turn, Step(run, group, task), signal, segments)
