"""Runs that start later, as their owner decides about them: one start, at its time, with what came before."""

from __future__ import annotations

from typing import Any

from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.messages import (
    CheckRun,
    ControlRun,
    Message,
    OpenRun,
    PauseRun,
    RunUnknown,
    SignalRun,
    StartGroup,
    StopRun,
    SubmitRun,
    TimerDue,
)
from anabranch.core.wire.run_record import RunRecord
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_agency.run.actor import decide
from anabranch_agency.run.early_signals import MAX_SIGNALS
from anabranch_agency.run.snapshots import CODEC
from anabranch_agency.run.state import PartitionState, RunState
from anabranch_agency.run.turn import DeadLetterOriginal, DecisionConfig, Turn

NAMES = Names("t.")
CONFIG = DecisionConfig(NAMES)
REQUEST = {"task_groups": [{"name": "g", "tasks": [{"name": "a", "agent": "echo", "result_keys": ["a"]}]}]}
START = "1970-01-01T01:00:00Z"


class Owner:
    def __init__(self) -> None:
        self.partition = PartitionState(0)
        self.offset = -1

    def receive(self, message: Message, at: float = 0.0) -> Turn:
        self.offset += 1
        return decide(CONFIG, self.partition, message, self.offset, at)


def submit(**fields: Any) -> SubmitRun:
    request = {**REQUEST, "not_before": START, **fields}
    return SubmitRun(run_id="r", request_id="q", session_id="s", body_hash="h", request=request)


def timer(at: float) -> TimerDue:
    return TimerDue(run_id="r", at=at)


def control(action: Any, **fields: Any) -> ControlRun:
    return ControlRun(run_id="r", action=action, origin="requests/0/1", **fields)


def sent(turn: Turn) -> list[type]:
    """Types of the messages to the session's owner."""
    published = [each.outgoing for each in turn.effects if isinstance(each, PublishAfter)]
    return [type(GROUPS.decode(each.value).message) for each in published if each.topic == NAMES.groups]


def events(turn: Turn) -> list[str]:
    return [event.entry.type for event in turn.events]


def test_a_run_is_admitted_at_once_and_starts_at_its_time() -> None:
    owner = Owner()
    admitted = owner.receive(submit())
    assert sent(admitted) == []
    assert events(admitted) == ["run.accepted", "run.scheduled"]
    assert owner.partition.next_deadline() == 3600.0
    assert owner.partition.runs["r"].tombstone.accepted["status"] == "scheduled"

    assert sent(owner.receive(timer(3599.0), 3599.0)) == []
    started = owner.receive(timer(3600.0), 3600.0)
    assert sent(started) == [OpenRun, StartGroup]
    assert events(started) == ["run.started"]
    assert owner.partition.runs["r"].tombstone.is_started
    assert sent(owner.receive(timer(3600.0), 3600.0)) == []


def accepted_records(turn: Turn) -> list[bytes]:
    published = [each.outgoing for each in turn.effects if isinstance(each, PublishAfter)]
    return [each.value for each in published if each.topic == NAMES.results]


def test_a_repeated_request_gets_the_same_record_before_and_after_the_start() -> None:
    """A record with a known id and other content would be a duplicate to its readers."""
    owner = Owner()
    first = accepted_records(owner.receive(submit()))
    assert accepted_records(owner.receive(submit())) == first
    owner.receive(timer(3600.0), 3600.0)
    assert accepted_records(owner.receive(submit(), 3601.0)) == first

    record = owner.partition.runs["r"].tombstone
    assert RunRecord.decode(record.encode()) == record
    view = RunView.of_record("r", record)
    assert (view.status, view.not_before) == ("accepted", None)


def test_the_timeout_begins_with_the_start_and_the_deadline_does_not() -> None:
    owner = Owner()
    owner.receive(submit(timeout=60))
    assert owner.partition.runs["r"].deadline == 3660.0

    owner = Owner()
    owner.receive(submit(timeout=60, deadline=3630))
    assert owner.partition.runs["r"].deadline == 3630.0


def test_a_start_in_the_past_is_now_and_a_deadline_in_the_past_has_passed() -> None:
    owner = Owner()
    assert sent(owner.receive(submit(), 4000.0)) == [OpenRun, StartGroup]

    owner = Owner()
    admitted = owner.receive(submit(not_before=10, deadline=3630), 4000.0)
    assert sent(admitted) == [OpenRun, StartGroup, StopRun]
    assert owner.partition.runs["r"].stopping == "timed_out"


def test_a_cancel_before_the_start_starts_and_stops_it() -> None:
    owner = Owner()
    owner.receive(submit())
    assert sent(owner.receive(control("cancel"), 5.0)) == [OpenRun, StartGroup, StopRun]
    assert sent(owner.receive(timer(3600.0), 3600.0)) == []

    owner = Owner()
    owner.receive(control("cancel"))
    assert sent(owner.receive(submit(), 5.0)) == [OpenRun, StartGroup, StopRun]


def test_what_came_before_the_start_is_sent_with_it() -> None:
    owner = Owner()
    owner.receive(control("signal", name="go", value=1, command_id="early"))
    owner.receive(submit())
    for _ in range(2):  # the same signal twice is one
        assert sent(owner.receive(control("signal", name="go", value=2, command_id="later"))) == []
    paused = owner.receive(control("pause"))
    assert (sent(paused), events(paused)) == ([], ["run.paused"])
    assert sent(owner.receive(timer(3600.0), 3600.0)) == [OpenRun, StartGroup, PauseRun, SignalRun, SignalRun]


def test_signals_beyond_the_limit_are_dead_letters() -> None:
    owner = Owner()
    owner.receive(submit())
    for number in range(MAX_SIGNALS):
        owner.receive(control("signal", name="go", value=1, command_id=str(number)))
    turn = owner.receive(control("signal", name="go", value=1, command_id="one more"))
    [letter] = [each for each in turn.effects if isinstance(each, DeadLetterOriginal)]
    assert "has not started yet" in letter.reason


def test_a_question_of_the_sessions_owner_is_not_asked_back() -> None:
    owner = Owner()
    owner.receive(submit())
    assert sent(owner.receive(RunUnknown(run_id="r"))) == []
    owner.receive(timer(3600.0), 3600.0)
    assert sent(owner.receive(RunUnknown(run_id="r"))) == [CheckRun]


def test_a_snapshot_has_the_start() -> None:
    owner = Owner()
    owner.receive(submit())
    owner.receive(control("signal", name="go", value=1, command_id="one"))
    state = RunState(owner.partition.runs["r"])
    assert CODEC.read(*CODEC.write(state)) == state
