"""Admissions of one request id, between services of two releases and after a run of the id was forgotten; and
answers if a run's first record, or the record of its end, was lost. Each owner alone, message by message.
"""

from __future__ import annotations

from typing import Any

import pytest
from lone_owners import NAMES, REQUEST, Runner, Session, finals, published

from anabranch.core.admissions import FENCES, admission_of, first_fence
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import (
    ArrayCounted,
    CheckRun,
    ControlRun,
    FailRun,
    GroupFinished,
    GroupResults,
    Message,
    Need,
    OpenRun,
    StartGroup,
    StopRun,
    SubmitRun,
    TaskOrder,
    TimerDue,
    ValueFound,
)
from anabranch.core.wire.results import reference_document
from anabranch.ports import Incoming
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_agency.run.state import STOP_SECONDS
from anabranch_taskgroup.session.faults import fail_named
from anabranch_taskgroup.session.faults import fail_run as give_up_group
from anabranch_taskgroup.session.partition import PartitionState as Groups
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import DecisionConfig as GroupRules
from anabranch_taskgroup.session.turn import OfferChunk

# --- an upgrade with runs open --------------------------------------------------------------------------


def test_a_run_opened_by_an_earlier_release_ends_under_this_one() -> None:
    """Its session's owner got no admission, but its run's owner has one."""
    session, runner = Session(), Runner(first=99)
    session.open(None)
    runner.submit()

    [ended] = published(session.complete(), GroupFinished)

    assert finals(runner.receive(ended)) == ["run.completed"]


@pytest.mark.parametrize(
    "question", [StopRun(run_id="r", reason="cancelled", admission=100), CheckRun(run_id="r", admission=100)]
)
def test_a_run_without_admission_matches_a_query_of_its_owner(question: Message) -> None:
    session = Session()
    session.open(None)

    assert not published(session.receive(question), FailRun)


def test_a_run_without_admission_is_not_started_again_by_an_upgraded_owner() -> None:
    """It repeats the last messages of its predecessor, now with an admission."""
    session = Session()
    session.open(None)

    again = session.open(100)

    assert not [effect for effect in again if isinstance(effect, OfferChunk)]
    assert published(session.complete(), GroupFinished)


def test_an_ended_run_without_admission_is_not_started_again_and_its_owner_is_answered() -> None:
    """It may be another run of the same id, for which there would be no answer otherwise."""
    session = Session()
    session.open(None)
    session.complete()

    again = session.open(100)

    assert not [effect for effect in again if isinstance(effect, OfferChunk)]
    assert [(each.abandoned, each.admission) for each in published(again, FailRun)] == [(True, 100)]


# --- a request id that comes again ------------------------------------------------------------------------


def test_a_stop_of_a_lost_run_does_not_stop_the_next_run_of_the_same_id() -> None:
    session = Session()
    session.receive(StopRun(run_id="r", reason="cancelled", admission=7))

    session.open(100)

    assert session.partition.runs["r"].groups["g"].tasks["t"].state is TaskState.RUNNING


@pytest.mark.parametrize("admission", [7, None])
def test_a_stop_that_precedes_its_run_stops_it(admission: int | None) -> None:
    session = Session()
    session.receive(StopRun(run_id="r", reason="cancelled", admission=admission))

    assert [each.status for each in published(session.open(7), GroupFinished)] == ["cancelled"]


@pytest.mark.parametrize("action", ["cancel", "pause"])
def test_a_control_record_that_precedes_a_run_applies_to_that_run_only(action: Any) -> None:
    runner = Runner()
    runner.receive(ControlRun(run_id="r", action=action, origin="t.requests/0/1"))
    runner.submit()
    assert runner.partition.runs["r"].stopping == ("cancelled" if action == "cancel" else None)
    assert runner.partition.runs["r"].paused == (action == "pause")
    admission = runner.partition.runs["r"].admission
    runner.receive(GroupFinished(run_id="r", group="g", status="cancelled", results={}, admission=admission))
    runner.forget()

    runner.submit()

    assert runner.partition.runs["r"].stopping is None
    assert not runner.partition.runs["r"].paused


def waits_for_an_array(session: Session, admission: int) -> Task:
    """A task over an external key that is not set yet."""
    opened = OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9, admission=admission)
    order = TaskOrder(
        name="t",
        agent="a",
        result_keys=("t",),
        needs=(Need(key="x", kind="external"),),
        expansion={"type": "array", "array_mapping": {"n": "x"}},
    )
    session.receive(opened)
    session.receive(StartGroup(run_id="r", group="g", tasks=(order,), admission=admission))
    return session.partition.runs["r"].groups["g"].tasks["t"]


def test_an_array_read_in_an_earlier_generation_does_not_reach_a_waiting_task() -> None:
    """The topic was recreated, the run is opened again in it, and an old record was appended late."""
    session = Session()
    task = waits_for_an_array(session, 7)

    for late in ({"error": "no list"}, {"count": 3}):
        session.receive(ArrayCounted(run_id="r", group="g", task="t", admission=7, **late))

    assert task.state is TaskState.WAITING


@pytest.mark.parametrize(
    ("admission", "state"), [(7, TaskState.READY), (100, TaskState.RUNNING), (None, TaskState.RUNNING)]
)
def test_the_array_of_an_earlier_run_of_the_id_is_not_used(admission: int | None, state: TaskState) -> None:
    """None: the array was counted by an owner of an earlier release."""
    session = Session()
    task = waits_for_an_array(session, 100)
    large = reference_document("s", "x", "r", 900, 900_000)
    session.receive(ValueFound(run_id="r", key="x", value=large, is_reference=True))
    assert task.state is TaskState.READY

    session.receive(ArrayCounted(run_id="r", group="g", task="t", count=3, admission=admission))

    assert task.state is state


def test_a_chunk_that_is_handed_back_for_a_week_keeps_its_admission() -> None:
    """For example if no worker has its agent: a stop of the run refers to the admission."""
    comes_back = 7 * 86_400 // 10

    assert admission_of(first_fence(41) + comes_back) == 41
    assert first_fence(127 << 40 | 2**40 - 1) + FENCES <= 2**63


def test_events_of_a_run_continue_after_the_topic_was_recreated() -> None:
    """Readers drop an event whose cause is no later than the last one of its source."""
    before = Runner(first=5_000)
    accepted = before.receive_turn(
        SubmitRun(run_id="r", request_id="q", session_id="s", body_hash="h", request=REQUEST)
    )
    after = Runner()
    after.partition.generation = 1
    after.partition.remember("r", before.partition.runs["r"].tombstone)

    ended = after.receive_turn(ControlRun(run_id="r", action="cancel"))

    [first], [last] = ([each.entry for each in turn.events] for turn in (accepted, ended))
    assert (first.type, last.type) == ("run.accepted", "run.failed")
    assert last.cause > first.cause


# --- answers --------------------------------------------------------------------------------------------


def opened_record(value: bytes) -> Incoming:
    return Incoming(NAMES.groups, 0, 5, b"s", value, (), 1.0)


OPENED = OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9, admission=9)


def test_a_run_whose_first_record_is_poison_is_answered() -> None:
    effects = list(give_up_group(GroupRules(NAMES), Groups(0), OPENED, opened_record(b""), "a bug"))

    [answer] = published(effects, FailRun)
    assert (answer.abandoned, answer.admission) == (True, 9)
    assert "a bug" in answer.message


def test_a_run_whose_first_record_is_undecodable_is_answered() -> None:
    large = OPENED.model_copy(update={"context": {"k": "x" * 9_000}})
    for value in (encode(OPENED), encode(large), encode(OPENED).replace(b'"deadline":', b'"deadlines":')):
        effects = list(fail_named(GroupRules(NAMES), Groups(0), opened_record(value), "its owners died"))
        assert [(each.run_id, each.abandoned) for each in published(effects, FailRun)] == [("r", True)]

    report = encode(GroupFinished(run_id="r", group="g", status="completed", results={}))
    assert not list(fail_named(GroupRules(NAMES), Groups(0), opened_record(report), "unknown run"))


def test_a_group_whose_results_were_refused_has_not_ended() -> None:
    """The log refused the first of two records that are published together, and accepted the second: the sender
    publishes both again.
    """
    runner = Runner()
    runner.submit()
    results = GroupResults(run_id="r", group="g", part=0, results={"t": 1})
    ended = GroupFinished(run_id="r", group="g", status="completed", results={}, parts=1)

    assert not finals(runner.receive(ended))

    runner.receive(results)
    [final] = [
        e.outgoing.value
        for e in runner.receive(ended)
        if isinstance(e, PublishAfter) and e.outgoing.topic == NAMES.results
    ]
    assert b'"results":{"t":1}' in final


def test_a_run_that_is_lost_ends_when_it_is_cancelled() -> None:
    """Its tombstone came from the store, and its records are no longer on the log."""
    before, runner = Runner(), Runner(first=1_000)
    before.submit()
    runner.partition.remember("r", before.partition.runs["r"].tombstone)

    assert finals(runner.receive(ControlRun(run_id="r", action="cancel"))) == ["run.failed"]


def test_a_session_has_time_to_answer_a_stop_long_after_the_deadline() -> None:
    """For example after an outage of the Agency: otherwise the results of the groups would be left out."""
    runner = Runner()
    runner.submit(timeout=60)
    late = 1.0 + 60 + 3_600
    stopped = runner.receive(TimerDue(run_id="r", at=late), at=late)
    assert published(stopped, StopRun)

    assert not finals(runner.receive(TimerDue(run_id="r", at=late + 0.1), at=late + 0.1))
    assert runner.partition.next_deadline() == late + STOP_SECONDS

    admission = runner.partition.runs["r"].admission
    ended = GroupFinished(run_id="r", group="g", status="timed_out", results={"t": 1}, admission=admission)
    assert finals(runner.receive(ended, at=late + 0.2)) == ["run.timed_out"]


def test_a_session_that_does_not_answer_ends_the_run_a_minute_later() -> None:
    runner = Runner()
    runner.submit(timeout=60)
    late = 1.0 + 60 + 3_600
    runner.receive(TimerDue(run_id="r", at=late), at=late)

    assert finals(runner.receive(TimerDue(run_id="r", at=late + STOP_SECONDS), at=late + STOP_SECONDS)) == [
        "run.timed_out"
    ]
