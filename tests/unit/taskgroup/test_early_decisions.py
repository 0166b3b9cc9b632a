"""Groups that one of their tasks decides, and failures that are values."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from flow_runs import NAMES, FlowRun, compare, order

from anabranch.core.request.models import Expansion
from anabranch.core.wire import messages as m
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_taskgroup.session.turn import Halt

OVER_TEN = Expansion(type="array", array_mapping={"item": list(range(10))}, output_format="index")


def halted(run: FlowRun) -> list[str | None]:
    return [each.group for each in run.effects if isinstance(each, Halt)]


def cancelled(run: FlowRun) -> list[Any]:
    return [each["task"] for each in run.events if each["type"] == "task.cancelled"]


# --- fail_fast -----------------------------------------------------------------------------------


def test_the_first_failure_cancels_what_still_runs_and_the_group_failed() -> None:
    run = FlowRun({"g": [order("a"), order("b"), order("c", "b")]}, {"fail_fast": True})

    run.fail("a")

    assert (run.finished["g"].status, cancelled(run), halted(run)) == ("failed", ["b", "c"], ["g"])
    assert [each.task for each in run.finished["g"].failures] == ["a"]


def test_without_it_nothing_is_cancelled_because_a_sibling_failed() -> None:
    run = FlowRun({"g": [order("a"), order("b")]})

    run.fail("a")

    assert (run.finished, cancelled(run), halted(run)) == ({}, [], [])


def test_a_handled_failure_does_not_cancel_its_siblings() -> None:
    run = FlowRun({"g": [order("a", error_key="error"), order("b")]}, {"fail_fast": True})

    run.fail("a")
    run.complete("b", 1)

    assert (run.finished["g"].status, cancelled(run)) == ("completed", [])


def test_other_groups_go_on() -> None:
    run = FlowRun({"g": [order("a"), order("b")], "h": [order("c")]}, {"fail_fast": True})

    run.fail("a")

    assert list(run.finished) == ["g"]
    assert run.states("h") == {"c": "RUNNING"}


# --- race and need -------------------------------------------------------------------------------


def test_the_first_completed_task_wins_the_race() -> None:
    run = FlowRun({"g": [order("a"), order("b"), order("c")]}, {"need": 1})
    run.fail("a")

    run.complete("b", "won")

    finished = run.finished["g"]
    assert (finished.status, finished.results) == ("completed", {"b": "won"})
    assert (cancelled(run), halted(run)) == (["c"], ["g"])


def test_a_report_of_a_loser_that_comes_later_changes_nothing() -> None:
    run = FlowRun({"g": [order("a"), order("b")], "h": [order("c")]}, {"need": 1})
    loser = run.task("b")
    [chunk] = loser.chunks.values()
    run.complete("a", "won")

    run.feed(
        m.MembersReported(
            run_id="r", group="g", task="b", chunk=chunk.number, fence=chunk.fence, worker="w", completed=((0, 1),)
        ),
        b"[1]",
    )

    assert run.finished["g"].results == {"a": "won"}
    assert run.partition.dropped == {"report of an earlier delivery": 1}


def test_two_of_three_have_to_complete() -> None:
    run = FlowRun({"g": [order("a"), order("b"), order("c")]}, {"need": 2})
    run.complete("a", 1)
    assert run.finished == {}

    run.complete("c", 3)

    assert (run.finished["g"].status, cancelled(run)) == ("completed", ["b"])


def test_a_group_that_can_no_longer_reach_its_number_fails_at_once() -> None:
    run = FlowRun({"g": [order("a"), order("b"), order("c")]}, {"need": 2})
    run.complete("a", 1)
    run.fail("b")
    run.fail("c")

    finished = run.finished["g"]
    assert finished.status == "failed"
    assert finished.failures[0].error_type == "NeedNotReached"
    assert finished.failures[0].message == (
        "group 'g' needs 2 completed tasks of 3: 1 completed, 2 failed or were skipped"
    )


def test_what_still_runs_is_cancelled_when_the_number_is_out_of_reach() -> None:
    run = FlowRun({"g": [order("a"), order("b"), order("c")]}, {"need": 3})

    run.fail("b")

    assert (run.finished["g"].status, cancelled(run)) == ("failed", ["a", "c"])


def test_a_group_that_is_skipped_as_a_whole_needs_no_winner() -> None:
    never = compare("x", "exists")
    run = FlowRun({"g": [order("a", when=never), order("b", when=never)]}, {"need": 1})

    assert (run.finished["g"].status, len(run.finished["g"].skipped)) == ("completed", 2)


def test_members_race_where_the_group_has_one_task_with_an_expansion() -> None:
    run = FlowRun({"g": [order("fan", expansion=OVER_TEN)]}, {"need": 2})
    run.complete("fan", "third", index=3)
    assert run.finished == {}

    run.complete("fan", "fifth", index=5)

    finished = run.finished["g"]
    assert finished.status == "completed"
    assert finished.results["fan"] == [None, None, None, "third", None, "fifth", None, None, None, None]
    assert halted(run) == ["g"]
    assert (finished.counts.total, finished.counts.completed, finished.counts.skipped) == (10, 2, 8)


def test_one_report_of_several_members_has_no_more_winners_than_needed() -> None:
    twenty = Expansion(type="array", array_mapping={"item": list(range(200))}, output_format="merge")
    run = FlowRun({"g": [order("fan", expansion=twenty)]}, {"need": 2})
    task = run.task("fan")
    chunk = task.chunks[0]
    [(first, last)] = chunk.pending
    assert last - first > 2

    values = [[index, index] for index in range(first, last)]
    run.report(task, first, [orjson.dumps(values)], completed=((first, last),), items=(2 * len(values),))

    assert run.finished["g"].results["fan"] == [0, 0, 1, 1]


def test_members_that_fail_too_often_fail_the_race() -> None:
    three = OVER_TEN.model_copy(update={"array_mapping": {"item": [1, 2, 3]}})
    run = FlowRun({"g": [order("fan", expansion=three)]}, {"need": 2})
    run.fail("fan", index=0)
    assert run.finished == {}

    run.fail("fan", index=2)

    assert run.finished["g"].status == "failed"
    assert "needs 2 completed members of 3: 0 completed, 2 failed" in run.finished["g"].failures[0].message


# --- error_key -----------------------------------------------------------------------------------


def test_an_error_key_has_the_failure_and_the_run_is_not_failed() -> None:
    run = FlowRun({"g": [order("a", error_key="error"), order("handle", "error"), order("then", "a")]})

    run.fail("a", "no luck")

    value = run.value("error")
    assert (value["error_type"], value["message"], value["attempts"], value["traceback"]) == (
        "Broken",
        "no luck",
        2,
        "trace",
    )
    assert [(each["task"], each["message"]) for each in value["failures"]] == [("a", "no luck")]
    assert run.offered == ["a", "handle"]

    run.complete("handle", "ok")

    finished = run.finished["g"]
    assert (finished.status, finished.failures, finished.failure_count) == ("completed", (), 0)
    assert finished.handled_failures == 1
    assert finished.results["error"]["message"] == "no luck"


@pytest.mark.parametrize(
    ("fields", "letters"),
    [
        ({}, 1),
        ({"error_key": "error"}, 0),
        ({"error_key": "error", "on_failure": "hold"}, 1),
        ({"error_key": "error", "expansion": OVER_TEN}, 0),
        ({"error_key": "error", "expansion": OVER_TEN, "tolerated_failures": 2}, 1),
    ],
)
def test_a_failure_that_is_certainly_handled_has_no_dead_letter(fields: dict[str, Any], letters: int) -> None:
    run = FlowRun({"g": [order("a", **fields)]})

    run.fail("a")

    published = [each.outgoing.topic for each in run.effects if isinstance(each, PublishAfter)]
    assert published.count(NAMES.dead_letters) == letters


def test_without_a_failure_the_error_key_is_absent() -> None:
    run = FlowRun({"g": [order("a", error_key="error"), order("handle", "error")]})

    run.complete("a", 1)

    assert [(each.task, each.because) for each in run.finished["g"].skipped] == [
        ("handle", "'error' is absent: g/a completed")
    ]
    assert (run.finished["g"].results, run.finished["g"].handled_failures) == ({"a": 1}, 0)


def test_a_result_and_its_handler_may_write_the_same_key() -> None:
    tasks = [order("a", error_key="error", result_keys=("out",)), order("b", "error", result_keys=("out",))]
    run = FlowRun({"g": [*tasks, order("join", "out")]}, alternatives={"out": 2})

    run.fail("a")
    assert run.states()["join"] == "WAITING"
    run.complete("b", "instead")

    assert (run.states()["join"], run.value("out")) == ("RUNNING", "instead")


def test_a_stop_of_the_run_is_no_failure_that_can_be_handled() -> None:
    run = FlowRun({"g": [order("a", error_key="error")], "h": [order("handle", "error")]})

    run.feed(m.StopRun(run_id="r", reason="cancelled"))

    assert [each.status for each in run.finished.values()] == ["cancelled", "cancelled"]
    assert run.finished["g"].handled_failures == 0


def test_a_failed_expansion_counts_each_failed_member_as_handled() -> None:
    run = FlowRun({"g": [order("fan", expansion=OVER_TEN, error_key="error")]})
    for index in range(9):
        run.complete("fan", index, index)

    run.fail("fan", index=9)

    finished = run.finished["g"]
    assert (finished.status, finished.handled_failures, finished.counts.failed) == ("completed", 1, 1)
    assert finished.results["error"]["failures"][0]["index"] == 9
