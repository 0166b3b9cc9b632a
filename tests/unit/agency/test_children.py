"""Sub-runs as the owner of the child sees them: one admission, an answer to each question, early cancels."""

from __future__ import annotations

from typing import Any

from anabranch.core.names import Names, child_request_id, run_id_for
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.messages import (
    ChildEnded,
    ChildStarted,
    ControlChild,
    GroupFinished,
    Message,
    ParentLink,
    SubmitChild,
    SubmitRun,
)
from anabranch.runtime.ownership.effects import PublishAfter, StorePut
from anabranch_agency.run.actor import decide
from anabranch_agency.run.children import AdmitChild
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DecisionConfig, Turn

NAMES = Names("t.")
RULES = DecisionConfig(NAMES)
LINK = ParentLink(run_id="parent", session_id="s", group="g", task="t", index=3, admission=7)
REQUEST = {"task_groups": [{"name": "g", "tasks": [{"name": "a", "agent": "echo", "result_keys": ["a"]}]}]}


class Owner:
    def __init__(self) -> None:
        self.partition = PartitionState(0)
        self.offset = -1

    def receive(self, message: Message) -> Turn:
        self.offset += 1
        return decide(RULES, self.partition, message, self.offset, float(self.offset + 1))


def wanted() -> SubmitChild:
    return SubmitChild(run_id="c", request_id="q", parent=LINK, project="default", request=REQUEST)


def submitted(link: ParentLink = LINK, body_hash: str = "h") -> SubmitRun:
    return SubmitRun(run_id="c", request_id="q", session_id="c", body_hash=body_hash, request=REQUEST, parent=link)


def control(action: Any) -> ControlChild:
    return ControlChild(run_id="c", action=action, parent=LINK, position=5)


def answers(turn: Turn) -> list[Message]:
    """What a turn publishes to the parent's session."""
    published = [effect.outgoing for effect in turn.effects if isinstance(effect, PublishAfter)]
    found = [GROUPS.decode(each.value).message for each in published if each.topic == NAMES.groups]
    return [each for each in found if isinstance(each, ChildStarted | ChildEnded)]


def statuses(turn: Turn) -> list[str]:
    return [each.status if isinstance(each, ChildEnded) else "started" for each in answers(turn)]  # type: ignore[attr-defined]


def test_a_request_is_validated_by_the_shell_until_the_child_is_admitted() -> None:
    owner = Owner()

    assert owner.receive(wanted()).effects == [AdmitChild(wanted())]
    assert statuses(owner.receive(submitted())) == ["started"]
    again = owner.receive(wanted())

    assert statuses(again) == ["started"]
    assert not any(isinstance(effect, AdmitChild) for effect in again.effects)
    assert owner.partition.runs["c"].tombstone.accepted["parent"]["index"] == 3


def test_the_end_is_answered_to_the_parent_and_to_each_later_question() -> None:
    owner = Owner()
    owner.receive(submitted())
    end = owner.receive(GroupFinished(run_id="c", group="g", status="completed", results={"a": 1}))

    for turn in (end, owner.receive(wanted()), owner.receive(control("check")), owner.receive(submitted())):
        [answer] = [each for each in answers(turn) if isinstance(each, ChildEnded)]
        assert (answer.run_id, answer.index, answer.admission) == ("parent", 3, 7)
        assert (answer.status, answer.results, answer.child_session_id) == ("completed", {"a": 1}, "c")


def test_the_parent_learns_of_the_end_after_the_final_record_of_the_child() -> None:
    owner = Owner()
    owner.receive(submitted())

    end = owner.receive(GroupFinished(run_id="c", group="g", status="completed", results={"a": 1}))

    last = [effect.outgoing.topic for effect in end.effects if isinstance(effect, PublishAfter) and effect.is_last]
    assert last == [NAMES.groups]


def test_a_child_that_is_cancelled_before_its_request_is_never_admitted() -> None:
    owner = Owner()

    cancelled = owner.receive(control("cancel"))

    assert statuses(cancelled) == ["cancelled"]
    assert [each.key for each in cancelled.effects if isinstance(each, StorePut)] == [NAMES.early("c", "stop")]
    for message in (wanted(), submitted(), wanted(), control("check"), control("cancel")):
        turn = owner.receive(message)
        assert statuses(turn) == ["cancelled"]
        assert not any(isinstance(effect, AdmitChild) for effect in turn.effects)
    assert owner.partition.runs == {}


def test_a_child_that_is_cancelled_between_request_and_submission_is_not_admitted() -> None:
    owner = Owner()
    owner.receive(wanted())
    owner.receive(control("cancel"))

    assert statuses(owner.receive(submitted())) == ["cancelled"]
    assert owner.partition.runs == {}


def test_an_unknown_child_that_its_parent_knows_is_lost_and_not_started_again() -> None:
    turn = Owner().receive(control("check"))

    assert statuses(turn) == ["lost"]
    assert not any(isinstance(effect, AdmitChild) for effect in turn.effects)


def test_the_run_of_another_member_is_neither_answered_nor_cancelled() -> None:
    owner = Owner()
    owner.receive(submitted(LINK.model_copy(update={"index": 4})))

    assert statuses(owner.receive(wanted())) == ["rejected"]
    assert statuses(owner.receive(control("cancel"))) == ["rejected"]
    assert owner.partition.runs["c"].stopping is None
    assert statuses(owner.receive(submitted(body_hash="other"))) == ["rejected"]


def test_a_child_is_paused_and_resumed_by_the_later_command() -> None:
    owner = Owner()
    owner.receive(submitted())
    owner.receive(control("resume").model_copy(update={"position": 9}))
    owner.receive(control("pause"))

    assert not owner.partition.runs["c"].paused
    owner.receive(control("pause").model_copy(update={"position": 10}))
    assert owner.partition.runs["c"].paused


def test_names_that_no_request_id_may_have_are_hashed_in_that_of_a_child() -> None:
    assert child_request_id("r", "g", "t", 2, (0, 4), 3) == "r/g/t/2#0.4@3"
    long = child_request_id("r", "g" * 200, "t" * 200, 2)
    braces = child_request_id("r", "g{x}", "t", 2)
    assert len(long) <= 255
    assert "{" not in braces
    assert len({run_id_for(each) for each in (long, braces, child_request_id("r", "g{x", "}t", 2))}) == 3
