"""Signals of a run by name: which are kept, and which steps wait for one. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.wait_state import MAX_KEPT, MAX_KEPT_BYTES, KeptSignal, Signals


def signals_of(run: Run) -> Signals:
    """The signals of a run, which has none before its first wait or signal."""
    if run.signals is None:
        run.signals = Signals()
    return run.signals


def enter(run: Run, task: Task, names: Iterable[str]) -> None:
    """Members of a step wait for these names: steps that waited before are first."""
    signals, place = signals_of(run), (task.group, task.name)
    for name in names:
        box = signals.box(name)
        if place not in box.waiting:
            box.waiting.append(place)


def leave(run: Run, task: Task) -> None:
    """A step has ended: none of its members waits any more."""
    place = (task.group, task.name)
    if place in run.conditions:
        run.conditions.remove(place)
    if run.signals is None or task.waits is None:
        return
    for name in task.waits.names:
        box = run.signals.boxes.get(name)
        if box is not None and place in box.waiting:
            box.waiting.remove(place)
            run.signals.drop_if_empty(name)


def first_waiting(run: Run, name: str) -> tuple[Task, int] | None:
    """The step and its lowest member that get the next signal of a name; None if nothing waits for it."""
    box = signals_of(run).boxes.get(name)
    while box is not None and box.waiting:
        task = run.task(*box.waiting[0])
        index = task.waits.lowest_waiting(name) if task is not None and task.waits is not None else None
        if task is not None and index is not None:
            return task, index
        box.waiting.pop(0)
    return None


def keep(run: Run, name: str, signal: KeptSignal) -> bool:
    """Keep a signal for the first wait that opens. False if the run keeps too many already."""
    signals = signals_of(run)
    if signals.kept >= MAX_KEPT or signals.kept_bytes + len(signal.data) > MAX_KEPT_BYTES:
        return False
    signals.box(name).kept.append(signal)
    signals.kept += 1
    signals.kept_bytes += len(signal.data)
    return True


def take_kept(run: Run, name: str) -> KeptSignal | None:
    """Remove and return the oldest kept signal of a name; None if there is none."""
    signals = signals_of(run)
    box = signals.boxes.get(name)
    if box is None or not box.kept:
        return None
    signal = box.kept.pop(0)
    signals.kept -= 1
    signals.kept_bytes -= len(signal.data)
    return signal
