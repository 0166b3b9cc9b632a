"""Schedules as their owner decides about them: firings, overlap, catch-up, pauses, backfills, snapshots."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from anabranch.core.errors import RequestRefused
from anabranch.core.names import Names, run_id_for
from anabranch.core.schedules.addresses import schedule_address
from anabranch.core.schedules.control import message_of, read_schedule_control
from anabranch.core.schedules.views import VIEW_SECONDS
from anabranch.core.timestamps import parse_timestamp, utc_text
from anabranch.core.wire.codec import RUNS
from anabranch.core.wire.messages import (
    ControlRun,
    FiringEnded,
    FiringStarted,
    GroupFinished,
    Message,
    ScheduleLink,
    SubmitRun,
    TimerDue,
)
from anabranch.runtime.ownership.effects import PublishAfter, StorePut
from anabranch_agency.run.actor import decide
from anabranch_agency.run.firings import ListSchedule, SubmitFiring
from anabranch_agency.run.schedule_state import MAX_WAITING, ScheduleState
from anabranch_agency.run.schedules import moved
from anabranch_agency.run.snapshots import SCHEDULES
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DeadLetterOriginal, DecisionConfig, Turn

NAMES = Names("t.")
CONFIG = DecisionConfig(NAMES)
REQUEST = {"task_groups": [{"name": "g", "tasks": [{"name": "a", "agent": "echo", "result_keys": ["a"]}]}]}
ADDRESS = schedule_address("s")
HOUR = 3_600.0


class Owner:
    """The owner of a schedule that fires each hour."""

    def __init__(self, at: float = 10.0, **fields: Any) -> None:
        self.partition = PartitionState(0)
        self.offset = -1
        self.number = 0
        if fields:
            self.control("put", at, every="1h", request=REQUEST, **fields)

    def receive(self, message: Message, at: float) -> Turn:
        self.offset += 1
        return decide(CONFIG, self.partition, message, self.offset, at)

    def control(self, action: str, at: float = 10.0, *, again: bool = False, **fields: Any) -> Turn:
        self.number += not again
        document = {"type": "schedule", "action": action, "id": "s", **fields}
        return self.receive(message_of(read_schedule_control(document), f"requests/0/{self.number}"), at)

    def tick(self, at: float) -> Turn:
        return self.receive(TimerDue(run_id=ADDRESS, at=at), at)

    def end(self, logical: float, at: float, status: Any = "completed") -> Turn:
        return self.receive(FiringEnded(run_id=ADDRESS, firing=firing(logical), at=logical, status=status), at)

    @property
    def state(self) -> ScheduleState:
        return self.partition.schedules[ADDRESS]


def firing(logical: float) -> str:
    return run_id_for(f"s@{utc_text(logical)}")


def fired(turn: Turn) -> list[float]:
    return [each.at for each in turn.effects if isinstance(each, SubmitFiring)]


def missed(turn: Turn) -> list[tuple[float, str]]:
    events = [each.entry for each in turn.events if each.entry.type == "schedule.missed"]
    return [(parse_timestamp(each.data["at"]), each.data["reason"]) for each in events]


def cancelled(turn: Turn) -> list[str]:
    published = [
        RUNS.decode(each.outgoing.value).message for each in turn.effects if isinstance(each, PublishAfter)
    ]
    return [each.run_id for each in published if isinstance(each, ControlRun)]


def test_a_schedule_fires_at_its_times_once() -> None:
    owner = Owner(overlap="allow")
    assert owner.partition.next_deadline() == HOUR
    assert fired(owner.tick(HOUR - 1)) == []
    turn = owner.tick(HOUR)
    assert fired(turn) == [HOUR]
    assert [each.entry.type for each in turn.events] == ["schedule.fired"]
    assert fired(owner.tick(HOUR)) == []
    assert fired(owner.tick(2 * HOUR)) == [2 * HOUR]
    assert owner.partition.next_deadline() == 3 * HOUR


@pytest.mark.parametrize(
    ("overlap", "second", "third", "after"),
    [
        ("skip", [(2 * HOUR, "overlap")], [(3 * HOUR, "overlap")], []),
        ("buffer_one", [], [(3 * HOUR, "buffer")], [2 * HOUR]),
        ("buffer_all", [], [], [2 * HOUR]),
        ("cancel_other", [], [(2 * HOUR, "overlap")], [3 * HOUR]),
    ],
)
def test_overlap_decides_about_a_firing_while_a_run_is_open(
    overlap: str, second: list[Any], third: list[Any], after: list[float]
) -> None:
    owner = Owner(overlap=overlap)
    owner.tick(HOUR)
    owner.receive(FiringStarted(run_id=ADDRESS, firing=firing(HOUR), at=HOUR), HOUR + 1)
    turn = owner.tick(2 * HOUR)
    assert (fired(turn), missed(turn)) == ([], second)
    assert cancelled(turn) == ([firing(HOUR)] if overlap == "cancel_other" else [])
    turn = owner.tick(3 * HOUR)
    assert (fired(turn), missed(turn)) == ([], third)
    assert fired(owner.end(HOUR, 3 * HOUR + 1)) == after
    assert fired(owner.end(HOUR, 3 * HOUR + 1)) == []  # the answer again


def test_a_buffer_has_an_end() -> None:
    owner = Owner(overlap="buffer_all")
    owner.tick(HOUR)
    owner.state.waiting = [owner.state.firing(each, "clock") for each in range(MAX_WAITING)]
    assert missed(owner.tick(2 * HOUR)) == [(2 * HOUR, "buffer")]


@pytest.mark.parametrize(
    ("runs", "fires", "misses"),
    [
        ("latest", [6 * HOUR], [2, 3, 4, 5]),
        ("all", [4 * HOUR, 5 * HOUR, 6 * HOUR], [2, 3]),
        ("none", [], [2, 3, 4, 5, 6]),
    ],
)
def test_what_was_due_while_no_owner_was_there(runs: str, fires: list[float], misses: list[int]) -> None:
    owner = Owner(overlap="allow", catch_up={"window": "2h30m", "runs": runs})
    owner.tick(HOUR)
    turn = owner.tick(6 * HOUR + 120)
    assert fired(turn) == fires
    assert missed(turn) == [(each * HOUR, "window") for each in misses]
    assert fired(owner.tick(7 * HOUR + 50)) == [7 * HOUR]  # a minute late is on time


def test_a_year_without_an_owner_is_one_event() -> None:
    owner = Owner(overlap="allow")
    owner.control("put", every=1, request=REQUEST, overlap="allow", catch_up={"window": "10s", "runs": "all"})
    year = 365 * 86_400.0
    turns = [owner.tick(year)]
    while owner.state.due <= year:
        turns.append(owner.tick(year))
    assert len(turns) == 2
    assert [reason for turn in turns for _, reason in missed(turn)] == ["window"]
    assert len([at for turn in turns for at in fired(turn)]) == 61


def test_a_paused_schedule_misses_its_firings_and_a_trigger_fires() -> None:
    owner = Owner(overlap="buffer_all")
    owner.tick(HOUR)
    owner.tick(2 * HOUR)
    paused = owner.control("pause", 2 * HOUR + 1, by="ann", reason="too early")
    assert missed(paused) == [(2 * HOUR, "paused")]
    assert owner.state.paused_by == {"by": "ann", "reason": "too early", "at": "1970-01-01T02:00:01.000Z"}
    assert missed(owner.tick(3 * HOUR)) == [(3 * HOUR, "paused")]
    owner.end(HOUR, 3 * HOUR + 1)
    assert fired(owner.control("trigger", 3 * HOUR + 2)) == [3 * HOUR + 2]
    owner.end(3 * HOUR + 2, 3 * HOUR + 3)
    assert [each.entry.type for each in owner.control("resume", 3 * HOUR + 4).events] == ["schedule.resumed"]
    assert fired(owner.tick(4 * HOUR)) == [4 * HOUR]


def test_a_failed_run_pauses_the_schedule() -> None:
    owner = Owner(pause_on_failure=True)
    owner.tick(HOUR)
    owner.end(HOUR, HOUR + 5, "cancelled")
    assert not owner.state.paused
    owner.tick(2 * HOUR)
    turn = owner.end(2 * HOUR, 2 * HOUR + 5, "failed")
    assert [each.entry.type for each in turn.events] == ["schedule.paused"]
    assert owner.state.paused
    # The same file again does not resume it.
    owner.control("put", 2 * HOUR + 6, every="1h", request=REQUEST, pause_on_failure=True)
    assert owner.state.paused


def test_a_limit_ends_the_schedule_and_a_trigger_does_not_count() -> None:
    owner = Owner(limit=2, overlap="allow")
    owner.control("trigger", 20.0)
    assert fired(owner.tick(HOUR)) == [HOUR]
    assert fired(owner.tick(2 * HOUR)) == [2 * HOUR]
    turn = owner.tick(3 * HOUR)
    assert (fired(turn), missed(turn)) == ([], [(3 * HOUR, "limit")])
    assert owner.partition.next_deadline() is None
    owner.control("put", 3 * HOUR, every="1h", request=REQUEST, overlap="allow", limit=3)
    assert owner.partition.next_deadline() == 4 * HOUR


def test_a_backfill_fires_one_after_another_or_all_at_once() -> None:
    owner = Owner(overlap="skip")
    times = {"from": "1970-01-01T01:00Z", "to": "1970-01-01T03:00Z"}
    assert fired(owner.control("backfill", 9 * HOUR, **times)) == [HOUR]
    assert fired(owner.end(HOUR, 9 * HOUR)) == [2 * HOUR]
    assert fired(owner.end(2 * HOUR, 9 * HOUR)) == [3 * HOUR]
    assert fired(owner.end(3 * HOUR, 9 * HOUR)) == []

    owner = Owner(overlap="skip")
    turn = owner.control("backfill", 9 * HOUR, overlap="allow", **times)
    assert fired(turn) == [HOUR, 2 * HOUR, 3 * HOUR]
    assert owner.state.fired == 0

    owner = Owner(overlap="skip")
    many = owner.control("backfill", 500 * HOUR, overlap="allow", **{"from": 0})
    assert len(fired(many)) == 100
    assert owner.state.due <= 500 * HOUR
    assert len(fired(owner.tick(500 * HOUR))) >= 100


def test_a_backfill_leaves_out_what_has_a_run_already() -> None:
    owner = Owner(overlap="skip")
    owner.tick(HOUR)
    owner.tick(2 * HOUR)  # missed
    owner.end(HOUR, 2 * HOUR)
    owner.tick(3 * HOUR)
    owner.end(3 * HOUR, 3 * HOUR, "rejected")
    times = {"from": "1970-01-01T01:00Z", "to": "1970-01-01T04:00Z"}
    for expected in ([2 * HOUR, 3 * HOUR], []):
        turn = owner.control("backfill", 999 * HOUR, overlap="allow", **times)
        assert [at for at in fired(turn) if at <= 3 * HOUR] == expected
        for at in expected:
            owner.end(at, 999 * HOUR)
    assert [each.at for each in owner.state.history].count(2 * HOUR) == 2  # missed, then completed


def test_a_backfill_of_a_range_that_ends_before_it_begins_is_refused() -> None:
    times = {"from": "1970-01-01T03:00Z", "to": "1970-01-01T01:00Z"}
    with pytest.raises(RequestRefused, match="`to` is before `from`"):
        Owner(overlap="skip").control("backfill", **times)
    with pytest.raises(RequestRefused, match="`from` is missing"):
        Owner(overlap="skip").control("backfill")


def test_a_control_record_that_is_published_again_counts_once() -> None:
    owner = Owner(overlap="allow")
    assert fired(owner.control("trigger", 20.0)) == [20.0]
    assert fired(owner.control("trigger", 30.0, again=True)) == []
    assert fired(owner.control("trigger", 30.0)) == [30.0]


def test_a_delete_ends_the_timer_and_leaves_its_runs() -> None:
    owner = Owner(overlap="allow")
    owner.tick(HOUR)
    turn = owner.control("delete", HOUR + 1)
    assert [each.is_listed for each in turn.effects if isinstance(each, ListSchedule)] == [False]
    assert owner.partition.schedules == {}
    assert owner.partition.next_deadline() is None
    assert fired(owner.end(HOUR, HOUR + 2)) == []
    [letter] = [each for each in owner.control("pause").effects if isinstance(each, DeadLetterOriginal)]
    assert "there is no schedule" in letter.reason


def test_an_id_belongs_to_the_project_that_put_it_first() -> None:
    owner = Owner(overlap="allow")
    turn = owner.control("put", project="other", every="5m", request=REQUEST)
    assert [type(each) for each in turn.effects] == [DeadLetterOriginal]
    assert owner.state.project == "default"


def test_jitter_starts_later_under_the_logical_time() -> None:
    owner = Owner(jitter="30m")
    start = owner.state.due
    assert HOUR < start < 1.5 * HOUR
    assert fired(owner.tick(start)) == [HOUR]


def test_a_snapshot_has_all_of_a_schedule() -> None:
    owner = Owner(overlap="buffer_all", jitter=5)
    owner.tick(HOUR + 5)
    owner.tick(2 * HOUR + 5)
    owner.control("backfill", 9 * HOUR, **{"from": 0})
    owner.control("pause", 9 * HOUR)
    state = SCHEDULES.read(*SCHEDULES.write(owner.state))
    assert state == owner.state
    assert state.rules == owner.state.rules


def test_a_schedule_moves_to_a_topic_that_was_created_again() -> None:
    owner = Owner(limit=5, overlap="allow")
    owner.tick(HOUR)
    other = Owner()
    other.receive(moved(owner.state), HOUR + 200)
    assert (other.state.fired, other.state.next_at) == (1, 2 * HOUR)


def test_a_schedule_is_listed_and_shown_until_it_fires() -> None:
    years = 5 * 365 * 24 * HOUR
    cases: list[tuple[dict[str, Any], float]] = [({"every": "1h"}, HOUR - 10.0), ({"at": [years]}, years - 10.0)]
    for times, kept in cases:
        turn = Owner().control("put", schedule={"request": REQUEST, **times})
        [put] = [each for each in turn.effects if isinstance(each, StorePut)]
        assert put.ttl == pytest.approx(VIEW_SECONDS + kept)
        assert [each.is_listed for each in turn.effects if isinstance(each, ListSchedule)] == [True]
    turn = Owner(overlap="allow").tick(HOUR)
    assert [each.is_listed for each in turn.effects if isinstance(each, ListSchedule)] == [True]


def test_the_view_shows_what_the_owner_has() -> None:
    owner = Owner(overlap="skip")
    owner.tick(HOUR)
    turn = owner.tick(2 * HOUR)
    [put] = [each for each in turn.effects if isinstance(each, StorePut)]
    view = orjson.loads(put.value)
    assert view["running"] == [{"at": HOUR, "run_id": firing(HOUR), "source": "clock"}]
    assert view["missed"] == {"overlap": 1}
    assert view["next_at"] == 3 * HOUR


# --- the runs of firings -------------------------------------------------------------------------


def submitted(**more: Any) -> SubmitRun:
    link = ScheduleLink(address=ADDRESS, id="s", at=HOUR)
    fields = {"run_id": "r", "request_id": "q", "session_id": "r", "body_hash": "h", "request": REQUEST}
    return SubmitRun(**{**fields, "schedule": link, **more})


def answers(turn: Turn) -> list[Message]:
    published = [each.outgoing for each in turn.effects if isinstance(each, PublishAfter)]
    return [RUNS.decode(each.value).message for each in published if each.topic == NAMES.runs]


def test_a_run_answers_its_schedule_each_time_it_is_asked() -> None:
    owner = Owner()
    [started] = answers(owner.receive(submitted(), 10.0))
    assert started == FiringStarted(run_id=ADDRESS, firing="r", at=HOUR)
    assert answers(owner.receive(submitted(), 11.0)) == [started]
    finished = GroupFinished(run_id="r", group="g", status="completed", results={}, admission=None)
    ended = FiringEnded(run_id=ADDRESS, firing="r", at=HOUR, status="completed")
    assert answers(owner.receive(finished, 12.0)) == [ended]
    assert answers(owner.receive(submitted(), 13.0)) == [ended]


def test_a_firing_whose_id_a_user_has_used_is_rejected() -> None:
    owner = Owner()
    owner.receive(submitted(schedule=None, body_hash="other"), 10.0)
    [ended] = answers(owner.receive(submitted(), 11.0))
    assert isinstance(ended, FiringEnded)
    assert ended.status == "rejected"
    assert "used before" in ended.message
