"""Delivers messages that are addressed to one step of a run to the step's kind. Pure."""

from __future__ import annotations

from anabranch_taskgroup.session.known_runs import has_admission
from anabranch_taskgroup.session.steps import task
from anabranch_taskgroup.session.steps.kind import Signal, Step
from anabranch_taskgroup.session.steps.registry import kind_of
from anabranch_taskgroup.session.turn import Turn

SIGNALS = task.SIGNALS
"""The types of messages that are addressed to one step."""


def deliver(turn: Turn, signal: Signal, segments: tuple[bytes, ...]) -> None:
    """Deliver a signal to its step. One of another admission of the run, or of a run that is not open, is
    dropped."""
    step = _step_of(turn, signal)
    if step is None:
        turn.partition.drop("message for a run that is not open")
        return
    kind_of(step.task).on_signal(turn, step, signal, segments)


def _step_of(turn: Turn, signal: Signal) -> Step | None:
    run = turn.partition.runs.get(signal.run_id)
    group = run.groups.get(signal.group) if run is not None else None
    found = group.tasks.get(signal.task) if group is not None else None
    if run is None or group is None or found is None:
        return None
    return Step(run, group, found) if has_admission(run, getattr(signal, "admission", None)) else None
