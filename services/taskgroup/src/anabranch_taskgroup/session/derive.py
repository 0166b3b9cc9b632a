"""The effects that should be under way for an open run, derived from its state alone. Pure.

A new owner performs them once it has read its own claim, and a nudge performs them again. Each is safe to repeat.
"""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.core.wire.messages import StopReason
from anabranch.runtime.ownership.effects import Effect
from anabranch_taskgroup.session.context_merge import pending_reductions
from anabranch_taskgroup.session.retry_import import has_all_groups
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.steps.registry import kind_of, open_steps
from anabranch_taskgroup.session.turn import (
    AskChildren,
    CountArrays,
    Halt,
    ImportOutcomes,
    JudgeConditions,
    LookUpCache,
    OfferChunk,
    Pause,
    ReadItems,
    ReduceKey,
    RegisterWaits,
    RenderWaits,
    ReofferUnclaimed,
    RepeatWishes,
    StartChild,
    TakeChild,
    Unwatch,
    Watch,
)

DERIVED = (
    OfferChunk,
    Watch,
    Unwatch,
    CountArrays,
    LookUpCache,
    RenderWaits,
    RegisterWaits,
    RepeatWishes,
    JudgeConditions,
    ReadItems,
    ReduceKey,
    ImportOutcomes,
    ReofferUnclaimed,
    StartChild,
    TakeChild,
    AskChildren,
)
"""Effects that an owner leaves out before it has read its own claim: `derive` yields those that still count, with
`ReofferUnclaimed` for the offers. `Halt` and `Pause` are not among them: `derive` cannot yield those of a run that
has ended, and workers may still run its members."""


def derive(run: Run) -> Iterator[Effect]:
    """Yield the effects that should be under way: offers, watches, counts, reductions, imports, pauses and
    stops."""
    yield ReofferUnclaimed(run.run_id)
    for key in run.watched:
        yield Watch(run.run_id, run.session_id, key)
    # With fewer groups, the StartGroup record that completes them yields the import.
    if run.importing_from is not None and has_all_groups(run):
        yield ImportOutcomes(run.run_id)
    for step in open_steps(run):
        if step.task.judging is not None:
            yield JudgeConditions(run.run_id, step.group.name, step.task.name, step.task.judging)
        yield from kind_of(step.task).derive(step)
    yield from pending_reductions(run)
    if run.paused:
        yield Pause(run.run_id, run.session_id, True, run.deadline)
    if run.stopped:
        yield from halts(run, run.stopped)
    for group in run.groups.values():
        if group.timed_out or group.decided is not None:
            reason = "timed_out" if group.timed_out else "cancelled"
            yield Halt(run.run_id, run.session_id, reason, group.name, run.admission)


def halts(run: Run, reason: StopReason) -> Iterator[Halt]:
    """The stops of a run for its workers. A run with phases stops its groups one by one, so that the workers run
    the groups of its end."""
    if not run.phases:
        yield Halt(run.run_id, run.session_id, reason, admission=run.admission)
        return
    for name in run.expected:
        if run.terminated or name not in run.phases:
            yield Halt(run.run_id, run.session_id, reason, name, run.admission)
