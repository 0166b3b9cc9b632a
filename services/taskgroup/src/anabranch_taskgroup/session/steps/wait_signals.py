"""Gives signals of a run to the members that wait for them: each to one, the first that waits. Pure.

A signal that nothing waits for is kept, and given to the first wait for its name that opens. A value that does not
fit the schema of its wait is refused, and the wait stays open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from anabranch.core.wire.messages import SignalRun
from anabranch_taskgroup.session.known_runs import open_run
from anabranch_taskgroup.session.mailboxes import first_waiting, keep, signals_of, take_kept
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.steps.wait_endings import close, collect, satisfy
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.wait_state import KeptSignal


def receive(turn: Turn, message: SignalRun, segments: tuple[bytes, ...]) -> None:
    """Apply a signal, once for each id."""
    run = open_run(turn, message)
    if run is None:
        turn.partition.drop("signal of a run that is not open")
        return
    if not signals_of(run).note(message.signal_id):
        turn.partition.drop("signal known before")
        return
    signal = KeptSignal(message.signal_id, segments[0] if segments else b"null")
    found = first_waiting(run, message.name)
    if found is not None:
        task, index = found
        _accept(turn, run, task, index, message.name, signal)
        close(turn, run, task)
    elif keep(run, message.name, signal):
        turn.event(run, "signal.received", name=message.name, signal_id=signal.signal_id, kept=True)
    else:
        problem = "the run keeps as many signals as it can, and no wait has taken one"
        _refuse(turn, run, None, message.name, signal, problem)


def give_kept(turn: Turn, run: Run, names: Iterable[str]) -> None:
    """Members began to wait for these names: they get the signals that came before, in the order of arrival."""
    for name in names:
        while (found := first_waiting(run, name)) is not None:
            signal = take_kept(run, name)
            if signal is None:
                break
            task, index = found
            _accept(turn, run, task, index, name, signal)


def _accept(turn: Turn, run: Run, task: Task, index: int, name: str, signal: KeptSignal) -> None:
    """Give a signal to a member, which ends once it has as many as it waits for."""
    wait = task.order.wait
    assert wait is not None
    if wait.payload_schema is not None and (problem := payload_problem(wait.payload_schema, signal.data)):
        _refuse(turn, run, task, name, signal, problem)
        return
    spans = ((index, index + 1),)
    turn.event(run, "signal.received", task=task, spans=spans, name=name, signal_id=signal.signal_id)
    data = signal.data
    if wait.collect > 1:
        all_of_them = collect(turn, run, task, index, wait.collect, data)
        if all_of_them is None:
            return
        data = all_of_them
    satisfy(turn, run, task, spans, data, "signal", signal_id=signal.signal_id)


def _refuse(turn: Turn, run: Run, task: Task | None, name: str, signal: KeptSignal, problem: str) -> None:
    turn.event(run, "signal.refused", task=task, name=name, signal_id=signal.signal_id, message=problem)


def payload_problem(schema: Mapping[str, object], data: bytes) -> str | None:
    """What keeps a payload, which is JSON, from its schema; None if it fits."""
    # Imported with the first schema: the library takes longer to import than most requests take.
    from anabranch.core.waits.payload_schemas import payload_problems

    problems = payload_problems(schema, orjson.loads(data))
    return "; ".join(f"{path or 'the value'}: {message}" for path, message in problems) or None
