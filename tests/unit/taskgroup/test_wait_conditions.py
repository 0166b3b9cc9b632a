"""Waits for conditions, as the session's owner decides them: over values in its state and in the store."""

from __future__ import annotations

from typing import Any

from waiting_runs import WaitingRun, waits

from anabranch.core.wire import messages as m
from anabranch_taskgroup.session.derive import derive
from anabranch_taskgroup.session.turn import JudgeConditions, Watch


def ready(key: str = "stage", value: Any = "ready") -> dict[str, Any]:
    return {"field": key, "operator": "equals", "value": value}


def set_by_another_run(run: WaitingRun, run_id: str, **context: Any) -> None:
    """Open a run of the same session, whose context sets keys of the session."""
    run.feed(
        m.OpenRun(run_id=run_id, request_id=run_id, session_id="s", groups=("h",), deadline=1e9, context=context)
    )


def test_a_condition_that_is_true_ends_the_wait_at_once() -> None:
    run = WaitingRun(waits(condition=ready()), context={"stage": "ready"})
    assert run.results == {"w": None}
    assert run.events("task.completed") == [{"ended_by": "condition"}]


def test_a_condition_is_evaluated_when_a_task_of_the_run_sets_its_key() -> None:
    setter = waits("other", signal="go", order={"result_keys": ("stage",)})
    run = WaitingRun(waits(condition={"all": [ready(), ready("n", 3)]}), setter, context={"n": 3})
    assert run.finished is None
    assert run.from_snapshot() == run.run
    run.signal("go", "ready")
    assert run.results == {"w": None, "stage": "ready"}


def test_a_condition_is_evaluated_when_another_run_of_the_session_sets_its_key() -> None:
    run = WaitingRun(waits(condition=ready()))
    set_by_another_run(run, "a", stage="started")
    assert run.finished is None
    set_by_another_run(run, "b", other="ready")
    set_by_another_run(run, "c", stage="ready")
    assert run.results == {"w": None}
    assert "s" in run.partition.condition_runs
    set_by_another_run(run, "d", stage="ready")
    assert run.partition.condition_runs == {"s": set()}


def test_a_key_that_no_task_sets_is_looked_up_in_the_store_once() -> None:
    run = WaitingRun(waits(condition=ready("stage.name")))
    assert Watch("r", "s", "stage") in [effect for turn in run.turns for effect in turn.effects]
    run.feed(m.ValueFound(run_id="r", key="stage", value={"name": "ready"}, is_reference=False))
    assert run.results == {"w": None}


def test_a_condition_that_cannot_compare_fails_and_one_without_a_value_waits() -> None:
    condition = {"field": "n", "operator": "greater_than", "value": 3}
    run = WaitingRun(waits(condition=condition, timeout=60))
    run.pass_time(1_030.0)
    assert run.finished is None
    set_by_another_run(run, "a", n="four")
    assert run.finished is not None
    assert [failure.error_type for failure in run.finished.failures] == ["ConditionError"]


def judgements(run: WaitingRun) -> list[str]:
    return [effect.purpose for turn in run.turns for effect in turn.effects if isinstance(effect, JudgeConditions)]


def judged(run: WaitingRun, purpose: str, case: int = -1, error: str | None = None) -> None:
    run.feed(m.ConditionJudged(run_id="r", group="g", task="w", purpose=purpose, case=case, error=error))


def stored(run: WaitingRun, key: str = "stage") -> None:
    reference = {"$anabranch": f"s/{key}", "count": 1, "bytes": 9, "run_id": "x"}
    run.feed(m.ValueFound(run_id="r", key=key, value=reference, is_reference=True))


def test_a_condition_over_a_value_in_the_store_is_evaluated_by_the_shell_once_for_each_change() -> None:
    run = WaitingRun(waits(condition={"all": [ready(), ready("n", 3)]}))
    stored(run)
    assert judgements(run) == ["wait 2"]
    # Further changes wait for the answer, which is about the values at any time since.
    set_by_another_run(run, "a", n=2)
    set_by_another_run(run, "b", n=3)
    assert judgements(run) == ["wait 2"]
    assert run.from_snapshot() == run.run
    assert JudgeConditions("r", "g", "w", "wait 2") in list(derive(run.run)), "a new owner evaluates again"

    judged(run, "wait 2")
    assert judgements(run) == ["wait 2", "wait 4"]
    judged(run, "wait 2", case=0)
    assert run.finished is None, "an answer that is on the log twice is dropped"
    judged(run, "wait 4", case=0)
    assert run.results == {"w": None}
    assert run.events("task.completed") == [{"ended_by": "condition"}]


def test_a_wait_whose_condition_is_being_evaluated_ends_by_its_timeout() -> None:
    run = WaitingRun(waits(condition=ready(), timeout=60, on_timeout="value", value=7))
    stored(run)
    run.pass_time(1_060.0)
    assert run.results == {"w": 7}
    judged(run, "wait 2", case=0)
    assert run.events("task.completed") == [{"ended_by": "timeout"}]


def test_a_condition_over_a_value_that_is_gone_fails() -> None:
    run = WaitingRun(waits(condition=ready()))
    stored(run)
    judged(run, "wait 2", error="the value of s/stage is gone")
    assert run.finished is not None
    assert [failure.error_type for failure in run.finished.failures] == ["ConditionError"]
