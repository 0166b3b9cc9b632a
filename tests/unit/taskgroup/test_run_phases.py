"""The phases of a run's end: their order, what a stop does to them, and that they are part of snapshots."""

from __future__ import annotations

from typing import Any

import pytest
from flow_runs import NAMES, RULES, FlowRun, order

from anabranch.core.request.models import Compensation
from anabranch.core.wire import messages as m
from anabranch.core.wire.codec import RUNS
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.derive import derive
from anabranch_taskgroup.session.pending import waits_of
from anabranch_taskgroup.session.phase_table import NEXT, Phase
from anabranch_taskgroup.session.snapshots import decode_run, snapshot_of
from anabranch_taskgroup.session.turn import Halt

UNDO = Compensation(agent="undo")
LAST = m.TaskOrder(name="last", agent="a", result_keys=("last",), timeout=300.0)
BOTH = ("compensate", "finally")


class EndingRun(FlowRun):
    """A run of tasks `a` and `b`, both with a compensation, of `z`, and of `last` in `finally`."""

    def __init__(self, phases: tuple[Any, ...] = BOTH, *, is_late: bool = False) -> None:
        self.later: list[m.Message] = []
        self.is_late = is_late
        tasks = [order("a", compensate=UNDO), order("b", compensate=UNDO), order("z")]
        super().__init__({"g": tasks, **({"finally": [LAST]} if "finally" in phases else {})}, phases=phases)

    def feed(self, message: m.Message, *segments: bytes) -> Any:
        if isinstance(message, m.OpenRun) and "compensate" in message.phases:
            message = message.model_copy(update={"groups": (*message.groups, "compensate")})
        if self.is_late and isinstance(message, m.StartGroup) and message.group == "finally":
            self.later.append(message)
            return None
        return super().feed(message, *segments)

    def stop(self, **more: Any) -> None:
        self.feed(m.StopRun(run_id="r", reason="cancelled", **more))

    def feed_at(self, at: float, message: m.Message) -> None:
        """Decide about a message of a later time."""
        delivery = DeliveredMessage(message, (), len(self.log), at)
        self.log.append(delivery)
        turn = decide(RULES, self.partition, delivery)
        sent = [effect.outgoing for effect in turn.effects if isinstance(effect, PublishAfter)]
        found = [RUNS.decode(each.value).message for each in sent if each.topic == NAMES.runs]
        self.finished.update({each.group: each for each in found if isinstance(each, m.GroupFinished)})

    @property
    def phases_begun(self) -> list[m.PhaseBegan]:
        """The messages to the run's owner about phases."""
        sent = [effect.outgoing for effect in self.effects if isinstance(effect, PublishAfter)]
        found = [RUNS.decode(each.value).message for each in sent if each.topic == NAMES.runs]
        return [each for each in found if isinstance(each, m.PhaseBegan)]

    @property
    def is_open(self) -> bool:
        return "r" in self.partition.runs


def ended(*, failing: bool = True, phases: tuple[Any, ...] = BOTH) -> EndingRun:
    """A run whose tasks have ended: `b` before `a`."""
    run = EndingRun(phases)
    run.complete("b", "made b")
    run.complete("a", "made a")
    (run.fail if failing else run.complete)("z")
    return run


def test_the_table_has_each_phase_and_leads_to_the_end() -> None:
    assert set(NEXT) == set(Phase)
    assert all(Phase.ENDED in following for phase, following in NEXT.items() if phase is not Phase.ENDED)


def test_finally_does_not_begin_before_all_other_groups_have_ended() -> None:
    run = EndingRun()
    run.complete("a")

    assert run.offered == ["a", "b", "z"]
    found = {wait.missing.task: wait.missing.fact for wait in waits_of(run.run, NAMES)}
    assert found["last"] == "waits_for_groups"


def test_a_run_goes_through_its_phases() -> None:
    run = ended()
    assert (run.run.phase, run.run.outcome) == (Phase.COMPENSATING, "failed")
    run.complete("a", group="compensate")
    assert run.offered[3:] == ["a", "b"]
    run.complete("b", group="compensate")
    assert run.run.phase is Phase.FINALLY
    assert "compensate" in run.finished
    run.complete("last", group="finally")
    assert not run.is_open
    assert list(run.finished) == ["g", "compensate", "finally"]


@pytest.mark.parametrize("phases", [("compensate",), ("finally",), BOTH])
def test_a_phase_with_nothing_to_do_is_passed_over(phases: tuple[Any, ...]) -> None:
    run = ended(failing=False, phases=phases)
    if "finally" in phases:
        assert run.run.phase is Phase.FINALLY
        run.complete("last", group="finally")

    assert not run.is_open
    assert set(run.finished) == {"g", *phases}


def test_finally_whose_record_is_read_last_begins_then() -> None:
    run = EndingRun(is_late=True)
    for name in ("a", "b", "z"):
        run.complete(name)
    assert run.run.phase is Phase.FINALLY
    run.is_late = False
    run.feed(run.later[0])

    assert run.offered[-1] == "last"
    run.complete("last", group="finally")
    assert not run.is_open


def test_a_stop_of_a_run_that_is_ending_stops_nothing() -> None:
    run = ended()
    run.effects.clear()
    run.stop()

    assert run.run.stopped is None
    assert [effect for effect in run.effects if isinstance(effect, Halt)] == []
    run.complete("a", group="compensate")


def test_a_stop_spares_the_workers_of_the_groups_of_the_end() -> None:
    run = EndingRun()
    run.complete("a")
    run.stop()

    halted = [effect.group for effect in [*run.effects, *derive(run.run)] if isinstance(effect, Halt)]
    assert halted == ["g", "g"]
    assert run.run.phase is Phase.COMPENSATING
    assert run.offered[-1] == "a"


@pytest.mark.parametrize("when", ["at once", "while it is compensated", "in finally"])
def test_terminate_ends_a_run_without_compensations_and_finally(when: str) -> None:
    run = EndingRun() if when == "at once" else ended()
    if when == "at once":
        run.complete("a")
    if when == "in finally":
        run.complete("a", group="compensate")
        run.complete("b", group="compensate")
    run.stop(terminate=True)

    assert not run.is_open
    assert set(run.finished) == {"g", "compensate", "finally"}
    assert run.finished["finally"].status == "cancelled"
    assert run.finished["compensate"].counts.total == (0 if when == "at once" else 2)


def test_a_paused_run_that_is_stopped_is_no_longer_paused() -> None:
    run = EndingRun()
    run.complete("a")
    pause = m.PauseRun(run_id="r", paused=True, cause=7)
    run.feed(pause)
    run.stop()
    run.feed(pause)

    assert run.offered[-1] == "a"
    run.complete("a", group="compensate")


def test_a_task_of_finally_ends_at_its_timeout() -> None:
    run = ended(failing=False)
    due = next(each.due_at(timer) for each in [run.run.timers] for timer in each if timer.task == "last")
    assert due is not None
    run.feed_at(due, m.TimerDue(run_id="r", at=due))

    assert not run.is_open
    assert run.finished["finally"].status == "failed"
    assert [each.error_type for each in run.finished["finally"].failures] == ["TaskTimeout"]


@pytest.mark.parametrize("steps", range(3))
def test_a_snapshot_has_the_phase(steps: int) -> None:
    run = ended()
    for name in ("a", "b")[:steps]:
        run.complete(name, group="compensate")

    assert decode_run(*snapshot_of(run.partition, run.run)) == run.run


def test_the_owner_of_the_run_hears_of_each_phase_and_how_long_it_may_take() -> None:
    run = ended()
    run.complete("a", group="compensate")
    run.complete("b", group="compensate")

    assert [each.phase for each in run.phases_begun] == ["compensate", "finally"]
    assert all(each.until > run.log[-1].at for each in run.phases_begun)
    assert run.run.deadline >= run.phases_begun[-1].until
