"""When silent runs are nudged, and when documents are dropped."""

from __future__ import annotations

import pytest

from anabranch_eventmanager.projection.nudges import MAX_WAIT, NudgeSchedule
from anabranch_eventmanager.projection.retention import ABANDONED_SECONDS, RetentionSchedule, keep_until


def _due(schedule: NudgeSchedule, *times: float) -> list[float]:
    return [now for now in times if schedule.due(now)]


def test_a_silent_run_is_due_with_a_doubling_wait() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe("r", 0)

    assert _due(schedule, 29, 30, 31, 89, 90, 209, 210, 211) == [30, 90, 210]


def test_an_event_restarts_the_silence() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe("r", 0)
    schedule.observe("r", 20)

    assert _due(schedule, 30, 49, 50) == [50]


def test_after_an_event_the_wait_starts_short_again() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe("r", 0)
    _due(schedule, 30, 90)  # next would be at 210
    schedule.observe("r", 100)

    assert _due(schedule, 129, 130, 189, 190, 210) == [130, 190]


def test_the_wait_grows_to_an_hour_at_most() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe("r", 0)

    due = _due(schedule, *range(0, 30_000, 10))

    assert due[-1] - due[-2] == MAX_WAIT


def test_an_ended_run_is_never_due() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe("r", 0)
    schedule.remove("r")

    assert _due(schedule, 30, 1000) == []
    assert len(schedule) == 0


def test_a_silence_has_its_length() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe("r", 5)

    (silence,) = schedule.due(40)

    assert (silence.run_id, silence.silent_for) == ("r", 35)


def test_a_document_is_dropped_when_its_retention_ends() -> None:
    schedule = RetentionSchedule()
    schedule.keep("a", 10)
    schedule.keep("b", 20)

    assert [list(schedule.due(now)) for now in (9, 10, 15, 20, 30)] == [[], ["a"], [], ["b"], []]


@pytest.mark.parametrize(("first", "second"), [(10, 20), (20, 10)])
def test_the_last_date_given_holds(first: float, second: float) -> None:
    schedule = RetentionSchedule()
    schedule.keep("a", first)
    schedule.keep("a", second)

    due = [now for now in range(0, 40, 5) if schedule.due(now)]

    assert due == [second]


def test_an_ended_run_is_kept_for_the_retention_and_an_open_one_longer() -> None:
    run = {"status": "completed", "ended_at": 100.0, "last_fact_at": 100.0}

    assert keep_until("run/r", run, 50) == 150
    assert keep_until("run/r", run | {"status": "running"}, 50) == 100 + ABANDONED_SECONDS
    assert keep_until("task/r/g/t", {}, 50) is None
