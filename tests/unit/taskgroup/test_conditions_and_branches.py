"""Conditions, switches, joins after branches, and ends of tasks, as the session's owner decides them."""

from __future__ import annotations

import pytest
from flow_runs import NAMES, RULES, FlowRun, compare, order

from anabranch.core.request.flow import Switch
from anabranch.core.request.models import Expansion
from anabranch.core.wire import messages as m
from anabranch.core.wire.results import reference_document
from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.derive import derive
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.pending import waits_of
from anabranch_taskgroup.session.snapshots import decode_run, snapshot_of
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.turn import CountArrays, JudgeConditions
from anabranch_taskgroup.session.visible import visible_values

OK = compare("tests.passed", "equals", True)


def switch(name: str, *cases: object, needs: tuple[str, ...] = ("tests?",), **fields: object) -> m.TaskOrder:
    spec = {"has_default": False, "on_no_match": "fail", "reason": "branch"} | fields
    return order(name, *needs, kind="switch", result_keys=(), announces=True, switch=Switch(cases=cases, **spec))


def branch(case: int, key: str = "{g/(switch)}", reason: str = "branch") -> m.BranchOrder:
    return m.BranchOrder(key=key, case=case, reason=reason)


def states(run: FlowRun) -> dict[str, str]:
    return {name: state.value for name, state in run.states().items()}


# --- conditions ----------------------------------------------------------------------------------


def test_a_true_condition_begins_the_task_in_the_turn_of_its_last_field() -> None:
    run = FlowRun({"g": [order("tests"), order("deploy", "tests?", when=OK)]})
    assert run.offered == ["tests"]

    run.complete("tests", {"passed": True})

    assert run.offered == ["tests", "deploy"]


def test_a_false_condition_skips_with_its_values_and_the_run_completes() -> None:
    run = FlowRun({"g": [order("tests"), order("deploy", "tests?", when=OK), order("notify", "deploy")]})

    run.complete("tests", {"passed": False})

    [finished] = run.finished.values()
    assert (finished.status, finished.results, finished.failures) == (
        "completed",
        {"tests": {"passed": False}},
        (),
    )
    assert [(each.task, each.reason) for each in finished.skipped] == [
        ("deploy", "condition"),
        ("notify", "dependency"),
    ]
    assert finished.skipped[0].because == "tests.passed == true is false: tests.passed is false"
    assert finished.skipped[1].because == "'deploy' is absent: g/deploy skipped"
    told = [(each["task"], each["reason"]) for each in run.events if each["type"] == "task.skipped"]
    assert told == [("deploy", "condition"), ("notify", "dependency")]


def test_an_absent_required_key_comes_before_the_compare() -> None:
    run = FlowRun({"g": [order("tests"), order("deploy", "tests", when=compare("missing", "equals", 1))]})

    run.fail("tests")

    assert [(each.task, each.reason) for each in run.finished["g"].skipped] == [("deploy", "dependency")]


def test_a_condition_over_a_value_that_is_not_there_fails_the_task_with_condition_error() -> None:
    run = FlowRun({"g": [order("tests"), order("deploy", "tests?", when=OK)]})

    run.complete("tests", {"other": 1})

    [failure] = run.finished["g"].failures
    assert (failure.task, failure.error_type) == ("deploy", "ConditionError")
    assert "there is no value at tests.passed" in failure.message


def test_a_false_condition_beside_an_array_that_does_not_exist_skips_the_task() -> None:
    lost = Expansion(type="array", array_mapping={"item": "tests.cases"})
    run = FlowRun({"g": [order("tests"), order("fan", "tests", when=OK, expansion=lost)]})

    run.complete("tests", {"passed": False})

    assert run.finished["g"].status == "completed"
    assert [(each.task, each.reason) for each in run.finished["g"].skipped] == [("fan", "condition")]
    assert not [each for each in run.effects if isinstance(each, CountArrays)]


def test_a_condition_waits_until_the_producer_of_its_field_has_ended_however() -> None:
    absent = compare("tests", "not_exists")
    run = FlowRun({"g": [order("tests"), order("repair", "tests?", when=absent)]})
    assert run.offered == ["tests"]

    run.fail("tests")

    assert run.offered == ["tests", "repair"]


# --- conditions over values in the store ------------------------------------------------------------


def stored(run: FlowRun) -> None:
    """The task `tests` completes with a value that is in the store."""
    task = run.task("tests")
    task.spilled = True
    run.complete("tests")


def with_large_value(*tasks: m.TaskOrder) -> FlowRun:
    """A run in which `tests` has a value that only the store has."""
    run = FlowRun({"g": [order("tests"), *tasks]})
    stored(run)
    assert run.value("tests") == reference_document("s", "tests", "r", 1, run.value("tests")["bytes"])
    return run


def answer(run: FlowRun, task: str, purpose: str = "when", **fields: object) -> None:
    run.feed(m.ConditionJudged(run_id="r", group="g", task=task, purpose=purpose, **fields))


def test_a_condition_over_a_large_value_is_evaluated_by_the_shell_once() -> None:
    run = with_large_value(order("deploy", "tests?", when=OK))
    asked = [each for each in run.effects if isinstance(each, JudgeConditions)]
    assert asked == [JudgeConditions("r", "g", "deploy", "when")]
    assert run.offered == ["tests"]

    answer(run, "deploy", case=0)
    answer(run, "deploy", case=-1, because="a second answer")

    assert (run.offered, states(run)["deploy"]) == (["tests", "deploy"], "RUNNING")
    assert run.partition.dropped == {"condition evaluated before": 1}


def test_a_false_answer_skips_and_an_error_fails() -> None:
    run = with_large_value(order("deploy", "tests?", when=OK), order("other", "tests?", when=OK))

    answer(run, "deploy", because="tests.passed is false")
    answer(run, "other", error="there is no value at tests.passed")

    [skipped] = run.finished["g"].skipped
    assert (skipped.task, skipped.reason, skipped.because) == ("deploy", "condition", "tests.passed is false")
    assert [each.error_type for each in run.finished["g"].failures] == ["ConditionError"]


def test_a_new_owner_asks_the_shell_again() -> None:
    run = with_large_value(order("deploy", "tests?", when=OK))

    snapshot, payload = snapshot_of(run.partition, run.run)
    restored = decode_run(snapshot, payload)

    assert JudgeConditions("r", "g", "deploy", "when") in list(derive(restored))
    assert restored.groups["g"].tasks["deploy"].judging == "when"


# --- switches ------------------------------------------------------------------------------------


def cases(**fields: object) -> list[m.TaskOrder]:
    return [
        order("tests"),
        switch("(switch)", compare("tests", "equals", 1), compare("tests", "greater_or_equal", 1), **fields),
        order("one", "{g/(switch)}", branch=branch(0), result_keys=("out",)),
        order("many", "{g/(switch)}", branch=branch(1), result_keys=("out",)),
        order("none", "{g/(switch)}", branch=branch(2), result_keys=("out",)),
        order("join", "out"),
    ]


ALTERNATIVES = {"alternatives": {"out": 3}}


@pytest.mark.parametrize(("value", "chosen"), [(1, "one"), (5, "many"), (0, "none")])
def test_exactly_one_case_runs_and_the_join_behind_it_begins(value: int, chosen: str) -> None:
    run = FlowRun({"g": cases(has_default=True)}, **ALTERNATIVES)

    run.complete("tests", value)

    assert run.offered == ["tests", chosen]
    others = {"one", "many", "none"} - {chosen}
    assert {name for name, state in run.states().items() if state is TaskState.SKIPPED} == others

    run.complete(chosen, "result")
    run.complete("join", "end")

    finished = run.finished["g"]
    assert (finished.status, finished.results["out"], finished.results["join"]) == ("completed", "result", "end")
    assert {(each.task, each.reason) for each in finished.skipped} == {(name, "branch") for name in others}
    assert (finished.counts.total, finished.counts.skipped) == (5, 2)  # without the switch


def test_a_join_behind_a_skipped_branch_is_not_skipped_and_does_not_hang() -> None:
    run = FlowRun({"g": cases(has_default=True)}, **ALTERNATIVES)
    run.complete("tests", 5)
    assert states(run)["join"] == "WAITING"
    assert run.value("out") is None

    run.complete("many", "result")

    assert (states(run)["join"], run.value("out")) == ("RUNNING", "result")


def test_a_join_is_skipped_only_if_nobody_gave_its_key() -> None:
    run = FlowRun({"g": cases(has_default=True)}, **ALTERNATIVES)
    run.complete("tests", 5)

    run.fail("many")

    assert {each.task for each in run.finished["g"].skipped} == {"one", "none", "join"}


def test_no_case_without_a_default_fails() -> None:
    run = FlowRun({"g": cases()}, **ALTERNATIVES)

    run.complete("tests", 0)

    [failure] = run.finished["g"].failures
    assert (failure.task, failure.error_type) == ("(switch)", "NoCaseMatched")
    assert "tests == 1 is false: tests is 0" in failure.message
    assert {each.reason for each in run.finished["g"].skipped} == {"dependency"}


def test_no_case_may_skip_all() -> None:
    run = FlowRun({"g": cases(on_no_match="skip")}, **ALTERNATIVES)

    run.complete("tests", 0)

    assert (run.finished["g"].status, run.finished["g"].failures) == ("completed", ())
    assert [each.reason for each in run.finished["g"].skipped] == ["branch", "branch", "branch", "dependency"]


def test_the_condition_of_a_group_gives_its_own_reason() -> None:
    tasks = [
        order("tests"),
        switch("(when)", OK, on_no_match="skip", reason="condition"),
        order("deploy", "{g/(when)}", branch=branch(0, "{g/(when)}", "condition")),
    ]
    run = FlowRun({"g": tasks})

    run.complete("tests", {"passed": False})

    [skipped] = run.finished["g"].skipped
    assert (skipped.reason, skipped.because) == (
        "condition",
        "tests.passed == true is false: tests.passed is false",
    )


def test_a_switch_over_a_large_value_asks_the_shell() -> None:
    tasks = [switch("(switch)", OK, has_default=True), order("one", "{g/(switch)}", branch=branch(0))]
    run = with_large_value(*tasks)
    assert JudgeConditions("r", "g", "(switch)", "switch") in list(derive(run.run))

    answer(run, "(switch)", "switch", case=0)

    assert run.offered == ["tests", "one"]


# --- ends of tasks -------------------------------------------------------------------------------


def test_after_waits_for_the_end_and_takes_no_value() -> None:
    tasks = [order("first", announces=True), order("then", "{g/first}"), order("always", "{g/first}?")]
    run = FlowRun({"g": tasks})
    assert run.offered == ["first"]

    run.complete("first")

    assert run.offered == ["first", "then", "always"]


def test_a_failed_task_skips_those_after_it_unless_they_only_wait() -> None:
    tasks = [order("first", announces=True), order("then", "{g/first}"), order("always", "{g/first}?")]
    run = FlowRun({"g": tasks})

    run.fail("first")

    assert (run.offered, states(run)["then"]) == (["first", "always"], "SKIPPED")
    assert run.task("then").skip.because == "g/first failed"  # type: ignore[union-attr]


def test_the_end_of_a_task_is_no_value_of_another() -> None:
    run = FlowRun({"g": [order("first", announces=True), order("then", "{g/first}")]})

    run.complete("first")

    assert run.value("{g/first}") == "completed"
    assert visible_values(run.run, run.task("then")) == {}


# --- why, takeover -------------------------------------------------------------------------------


def test_why_names_the_end_and_the_field_that_a_task_waits_for() -> None:
    tasks = [order("first", announces=True), order("then", "{g/first}"), order("deploy", "first?", when=OK)]
    run = FlowRun({"g": tasks})

    found = {each.missing.task: each.missing for each in waits_of(run.run, NAMES)}

    assert (found["then"].fact, found["then"].detail) == ("waits_for_task", "the end of g/first")
    assert found["deploy"].fact == "waits_for_key"  # its condition reads another key
    run = FlowRun({"g": [order("tests"), order("deploy", "tests?", when=OK)]})
    found = {each.missing.task: each.missing for each in waits_of(run.run, NAMES)}
    assert (found["deploy"].fact, found["deploy"].key) == ("waits_for_field", "tests")


def test_a_run_from_a_snapshot_decides_alike_at_each_moment() -> None:
    run = FlowRun({"g": cases(has_default=True)}, **ALTERNATIVES)
    run.complete("tests", 5)
    run.complete("many", "result")
    run.complete("join", "end")
    for cut in range(2, len(run.log) - 1):
        partition = PartitionState(0)
        for delivery in run.log[:cut]:
            decide(RULES, partition, delivery)
        snapshot, payload = snapshot_of(partition, partition.runs["r"])
        partition.runs["r"] = decode_run(snapshot, payload)
        for delivery in run.log[cut:]:
            decide(RULES, partition, delivery)

        assert partition.runs == {}, cut
