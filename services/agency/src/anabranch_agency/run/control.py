"""Control records: cancel, pause, resume, signals, decisions on held members, and retry. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from anabranch.core.admissions import offset_of
from anabranch.core.errors import Code, Problem
from anabranch.core.names import run_id_for
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.wire.messages import (
    ControlRun,
    DecideApproval,
    ReleaseHeld,
    StopReason,
    StopRun,
    SubmitRun,
)
from anabranch.core.wire.run_record import RunRecord
from anabranch_agency.run.early_signals import MAX_BYTES, MAX_SIGNALS, early_signal
from anabranch_agency.run.forks import Fork
from anabranch_agency.run.forwarding import send_pause, send_signal
from anabranch_agency.run.held_start import begin, keep_signal
from anabranch_agency.run.state import Command, Run
from anabranch_agency.run.turn import DeadLetterOriginal, Resubmit, Turn, refuse


def control_run(turn: Turn, control: ControlRun) -> None:
    """Apply a control record. Most are forwarded to the session's owner of an open run; a retry needs an ended
    run."""
    if control.action == "retry" or control.action == "fork":
        _start_again(turn, control)
        return
    # Only these two undo each other. A repeated cancel has no effect, and decisions on held members have a
    # command id.
    if control.action in ("pause", "resume") and not turn.partition.observe_control(
        control.run_id, control.origin
    ):
        turn.partition.drop("pause or resume applied before")
        return
    run = turn.partition.runs.get(control.run_id)
    if run is None:
        # A run that ended needs nothing; one that is not known may still be submitted.
        if control.run_id not in turn.partition.tombstones:
            _remember(turn, control)
        turn.partition.drop("control of a run that is not open")
    elif control.action in ("cancel", "terminate"):
        stop(turn, run, "cancelled", command_of(turn, control))
    elif control.action == "signal":
        _signal(turn, run, control)
    elif control.action == "approve":
        _decide(turn, run, control)
    elif control.action == "redrive" or control.action == "dismiss":
        _release(turn, run, control, control.action)
    else:
        pause(turn, run, command_of(turn, control))


def _signal(turn: Turn, run: Run, control: ControlRun) -> None:
    if run.held is None:
        send_signal(turn, run, control.name, control.value, control.command_id)
        return
    signal = early_signal(control.name, control.value, control.command_id, turn.position)
    if not keep_signal(run.held, signal):
        _refuse_signal(turn, control, f"run {run.run_id} has not started yet", run.tombstone.project)


def _refuse_signal(turn: Turn, control: ControlRun, why: str, project: str) -> None:
    reason = f"{why}, and has {MAX_SIGNALS} signals or {MAX_BYTES:,} bytes of them already: send the signal later"
    turn.effects.append(DeadLetterOriginal(control.origin, str(Code.TOO_LARGE), reason, project))


def command_of(turn: Turn, control: ControlRun) -> Command:
    """The command in a control record that is applied now."""
    return Command(control.action, control.by, control.reason, turn.at)


def early_command(document: Mapping[str, Any]) -> Command:
    """The command that `Turn.store_early` stored; one of an earlier release does not say who gave it."""
    get = document.get
    return Command(document["action"], get("by", ""), get("reason", ""), get("at", 0.0))


def _remember(turn: Turn, control: ControlRun) -> None:
    """Remember a control record for a run that is not submitted yet: it may overtake its request, because the two
    can be in different partitions of `requests`."""
    if control.action in ("cancel", "terminate"):
        turn.partition.stop_early(control.run_id, command_of(turn, control))
        turn.store_early(control, "stop")
    elif control.action in ("pause", "resume"):
        turn.partition.pause_early(control.run_id, command_of(turn, control))
        turn.store_early(control, "pause")
    elif control.action == "signal":
        signal = early_signal(control.name, control.value, control.command_id, turn.position)
        if turn.partition.early_signals.keep(control.run_id, signal):
            turn.store_early_signals(control.run_id)
        else:
            _refuse_signal(turn, control, f"run {control.run_id} is not submitted yet", DEFAULT_PROJECT)


def pause(turn: Turn, run: Run, command: Command) -> None:
    """Pause or resume a run. A paused run starts no further members. Repeating a pause or resume has no effect."""
    paused = command.action == "pause"
    if run.paused != paused:
        run.paused = paused
        turn.event(run.run_id, run.tombstone, "run.paused" if paused else "run.resumed", **command.shown())
    if run.held is None:
        send_pause(turn, run)


def _decide(turn: Turn, run: Run, control: ControlRun) -> None:
    """Forward the decision of an approval to the session's owner, which says in an event whether it counts."""
    message = DecideApproval(
        run_id=run.run_id,
        group=control.group,
        task=control.task or "",
        index=control.indexes[0] if control.indexes else None,
        iteration=control.iteration,
        decision=control.name,
        decision_id=control.command_id,
        data=control.value,
        comment=control.reason,
        by=control.by or None,
        admission=run.admission,
    )
    turn.publish(turn.config.names.groups, run.session_id, message)


def _release(turn: Turn, run: Run, control: ControlRun, action: Literal["redrive", "dismiss"]) -> None:
    """Forward a decision on held members to the session's owner, which holds them."""
    message = ReleaseHeld(
        run_id=run.run_id,
        action=action,
        group=control.group,
        task=control.task,
        indexes=control.indexes,
        iteration=control.iteration,
        command_id=control.command_id,
        by=control.by,
        reason=control.reason,
    )
    turn.publish(turn.config.names.groups, run.session_id, message)


def _start_again(turn: Turn, control: ControlRun) -> None:
    """Start a run that imports results of an ended run: a retry, unless nothing is left to run, or a fork."""
    known = turn.partition.tombstones.get(control.run_id)
    problem = _why_not_retried(turn, control.run_id, known, is_fork=control.action == "fork")
    if problem is not None:
        _refuse_retry(turn, control, problem, _project_of(turn, control.run_id, known))
        return
    assert known is not None
    offset = offset_of(known.offset, turn.partition.generation)
    assert offset is not None
    kind = Fork if control.action == "fork" else Resubmit
    turn.effects.append(kind(control, offset, _project_of(turn, control.run_id, known)))


def _project_of(turn: Turn, run_id: str, known: RunRecord | None) -> str:
    """The project of the run that a control record names; the default project if there is no such run."""
    run = turn.partition.runs.get(run_id)
    tombstone = known if run is None else run.tombstone
    return DEFAULT_PROJECT if tombstone is None else tombstone.project


_SUBMIT_AGAIN = "submit the request again: the topic `runs` was deleted and recreated"


def _why_not_retried(turn: Turn, run_id: str, known: RunRecord | None, *, is_fork: bool) -> Problem | None:
    if run_id in turn.partition.runs:
        return _not_retryable(f"run {run_id} is still open", "wait for its end, or cancel it")
    if known is None or known.final is None:
        hint = "it never existed, or ended too long ago: submit the request again"
        return _not_retryable(f"run {run_id} is not known", hint)
    if known.final_status == "completed" and not is_fork:
        hint = "submit the request under a new id to run it again"
        return _not_retryable(f"run {run_id} completed: nothing failed", hint)
    if offset_of(known.offset, turn.partition.generation) is None:
        return _not_retryable(f"the request of run {run_id} is no longer on the log", _SUBMIT_AGAIN)
    return None


def _not_retryable(message: str, hint: str) -> Problem:
    return Problem(Code.NOT_RETRYABLE, "/run_id", message, hint)


def _refuse_retry(turn: Turn, control: ControlRun, problem: Problem, project: str) -> None:
    """Publish a refusal for the client that waits for the new run."""
    request_id = control.new_request_id or ""
    # `refuse` answers submissions, so it gets the one that the retry would have been.
    submit = SubmitRun(
        run_id=run_id_for(request_id),
        request_id=request_id,
        session_id="",
        body_hash="",
        request={"project": project},
        origin=control.origin,
        traceparent=control.traceparent,
    )
    refuse(turn, submit, [problem], ())


def stop(turn: Turn, run: Run, reason: StopReason, command: Command | None = None) -> None:
    """Ask the session's owner to stop the members of a run. The first reason is kept; only a `terminate` adds to
    an earlier stop."""
    terminates = command is not None and command.action == "terminate" and not run.terminated
    if run.held is not None:
        begin(turn, run)
    if run.stopping is None or terminates:
        run.terminated = terminates
        run.stopped_by = command or run.stopped_by
    if run.stopping is None:
        run.stopping, run.stopped_at = reason, turn.at
        # `Run.due` has changed: it is now the end of the wait for the groups.
        turn.partition.arm(run)
    elif not terminates:
        return
    order = StopRun(run_id=run.run_id, reason=run.stopping, admission=run.admission, terminate=run.terminated)
    turn.publish(turn.config.names.groups, run.session_id, order)
