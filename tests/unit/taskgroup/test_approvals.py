"""Steps that wait for people: the first decision stands, and each decision is told whether it counts."""

from __future__ import annotations

from typing import Any

import pytest
from waiting_runs import WaitingRun, each_of, waits

from anabranch.core.wire import messages as m
from anabranch_taskgroup.session.states import TaskState

FORM = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}


def asks(name: str = "w", **approval: Any) -> m.TaskOrder:
    of_wait = ("expansion", "order", "timeout", "on_timeout")
    more = {each: approval.pop(each) for each in of_wait if each in approval}
    return waits(name, approval=approval, **more)


def test_a_decision_is_the_value_of_its_task() -> None:
    run = WaitingRun(asks(subject="Pay?"))
    assert run.events("task.waiting") == [
        {
            "reason": "approval",
            "approval": {
                "subject": "Pay?",
                "body": None,
                "assignees": [],
                "options": ["approve", "reject"],
                "required": 1,
            },
        }
    ]
    run.decide(data={"amount": 5}, comment="fine")
    assert run.results == {
        "w": {
            "decision": "approve",
            "by": "ann",
            "at": "1970-01-01T00:16:40.000Z",
            "data": {"amount": 5},
            "comment": "fine",
        }
    }
    assert run.events("approval.decided")[0]["ended"] is True


def test_an_approval_twice_counts_once_and_the_second_is_told_the_first() -> None:
    run = WaitingRun(asks(), waits("other", signal="stay"))
    run.decide("approve", by="ann", comment="yes")
    run.decide("reject", by="bob")
    [refused] = run.events("approval.refused")
    assert (refused["code"], refused["stood"]["decision"], refused["stood"]["by"]) == ("decided", "approve", "ann")
    assert len(run.events("task.completed")) == 1
    run.signal("stay")
    assert run.results["w"]["decision"] == "approve"


def test_a_record_that_is_delivered_twice_counts_once_and_says_so() -> None:
    run = WaitingRun(asks(required=2), waits("other", signal="stay"))
    for _ in range(2):
        run.decide(by="ann", decision_id="d1")
    assert [data.get("repeated") for data in run.events("approval.decided")] == [None, True]
    assert run.task().state is TaskState.RUNNING
    run.decide(by="bob", decision_id="d2")
    run.decide(by="bob", decision_id="d2")
    assert run.events("approval.decided")[-1]["repeated"] is True
    assert run.events("approval.refused") == []


def test_another_decision_with_the_id_of_one_that_counts_is_told_that_one() -> None:
    run = WaitingRun(waits(approval={"required": 2}))
    run.decide(by="ann", decision_id="d1")

    run.decide("reject", by="ann", decision_id="d1")

    [refused] = run.events("approval.refused")
    assert (refused["code"], refused["stood"]["decision"]) == ("decided", "approve")
    assert [data["decision"] for data in run.events("approval.decided")] == ["approve"]


def test_several_people_have_to_agree_and_nobody_counts_twice() -> None:
    run = WaitingRun(asks(required=2))
    run.decide(by="ann")
    assert run.from_snapshot() == run.run
    run.decide(by="ann")
    assert [data["code"] for data in run.events("approval.refused")] == ["decided"]
    run.decide(by="bob")
    value = run.results["w"]
    assert [vote["by"] for vote in value["votes"]] == ["ann", "bob"]


def test_one_rejection_fails_the_task() -> None:
    run = WaitingRun(asks(required=2))
    run.decide("reject", comment="too much")
    assert run.finished is not None
    [failure] = run.finished.failures
    assert (failure.error_type, failure.message) == ("ApprovalRejected", "ann has rejected it: too much")


@pytest.mark.parametrize(("on_reject", "results"), [("skip", None), ("value", "reject")])
def test_a_rejection_may_skip_or_be_a_value(on_reject: str, results: str | None) -> None:
    run = WaitingRun(asks(on_reject=on_reject))
    run.decide("reject")
    found = run.results.get("w")
    assert (None if found is None else found["decision"]) == results


@pytest.mark.parametrize(
    ("approval", "decision", "code"),
    [
        ({}, {"decision": "maybe"}, "unknown_decision"),
        ({"form": FORM}, {"data": {"amount": "five"}}, "form"),
        ({"form": FORM}, {}, "form"),
        ({"assignees": ["bob", "eve"]}, {}, "not_assignee"),
        ({"assignees": ["bob"]}, {"by": None}, "not_assignee"),
        ({"forbid_requester": True}, {}, "requester"),
        ({"forbid_requester": True}, {"by": None}, "requester"),
        ({}, {"task": "unknown"}, "not_found"),
        ({}, {"group": "h"}, "not_found"),
        ({}, {"index": 7}, "not_waiting"),
        ({}, {"iteration": (1,)}, "not_waiting"),
    ],
)
def test_a_decision_that_does_not_count_leaves_the_wait_open(
    approval: dict[str, Any], decision: dict[str, Any], code: str
) -> None:
    run = WaitingRun(asks(**approval), requested_by="ann")
    run.decide(**decision)
    assert [data["code"] for data in run.events("approval.refused")] == [code]
    assert run.finished is None
    run.decide(by="bob", data={"amount": 5})
    assert run.results["w"]["by"] == "bob"


def test_form_errors_name_the_field() -> None:
    run = WaitingRun(asks(form=FORM))
    run.decide(data={"amount": "five"})
    [refused] = run.events("approval.refused")
    assert refused["errors"] == [{"path": "/data/amount", "message": "'five' is not of type 'integer'"}]


def test_members_are_decided_one_by_one_and_each_asks_its_own_people() -> None:
    people = each_of([{"who": "ann"}, {"who": "bob"}])
    run = WaitingRun(asks(subject="{item.who}?", assignees=["{item.who}"], expansion=people))
    asked = [(data["approval"]["subject"], data["spans"]) for data in run.events("task.waiting")]
    assert asked == [("ann?", ((0, 1),)), ("bob?", ((1, 2),))]
    run.decide(by="ann", index=1)
    assert [data["code"] for data in run.events("approval.refused")] == ["not_assignee"]
    run.decide(by="bob", index=1)
    run.decide(by="ann")
    assert [value["by"] for value in run.results["w"]] == ["ann", "bob"]


def test_an_approval_may_time_out_and_a_later_decision_is_refused() -> None:
    run = WaitingRun(asks(timeout=60, on_timeout="skip"), waits("other", signal="stay"))
    run.pass_time(1_060.0)
    run.decide()
    [refused] = run.events("approval.refused")
    assert (refused["code"], refused["message"]) == ("not_waiting", "the wait ended without a decision")


def test_the_state_keeps_no_large_data_of_a_decision_that_stands() -> None:
    people = each_of([1, 2])
    run = WaitingRun(asks(expansion=people))
    run.decide(index=0, data={"text": "x" * 10_000})
    run.decide(by="bob", index=0)
    [refused] = run.events("approval.refused")
    assert (refused["code"], refused["stood"]["by"], refused["stood"]["data"]) == ("decided", "ann", None)
    run.decide(index=1, data=5)
    assert [len(str(value["data"])) > 5_000 for value in run.results["w"]] == [True, False]
