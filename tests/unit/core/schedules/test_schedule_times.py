"""When schedules fire: intervals, single times, exceptions, limits of time; and what is refused."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from anabranch.cli.main import main
from anabranch.core.errors import RequestRefused
from anabranch.core.schedules.moments import parse_moment
from anabranch.core.schedules.reading import read_timing
from anabranch.core.schedules.times import firing_id, jitter_of
from anabranch.core.schedules.zones import zone_of
from anabranch.core.timestamps import utc_text


def times(start: str, count: int, **fields: Any) -> list[str]:
    _, rule = read_timing({"id": "nightly", **fields})
    return [utc_text(at) for at in islice(rule.upcoming(parse_moment(start, zone_of("UTC"))), count)]


def test_an_interval_is_counted_from_the_epoch_and_its_phase() -> None:
    assert times("2026-01-01T00:01Z", 2, every="15m") == ["2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"]
    assert times("2026-01-01T00:20Z", 2, every="15m", phase="5m") == [
        "2026-01-01T00:35:00Z",
        "2026-01-01T00:50:00Z",
    ]
    assert times("2026-01-01T00:00Z", 2, every=1.5) == ["2026-01-01T00:00:01.500Z", "2026-01-01T00:00:03Z"]
    # A phase of more than the interval is one of its rest.
    assert times("2026-01-01T00:01Z", 1, every="15m", phase="20m") == ["2026-01-01T00:05:00Z"]


def test_several_expressions_are_one_list_of_times() -> None:
    assert times("2026-01-01T00:00Z", 3, cron=["0 7 * * *", "0 7,8 * * *"]) == [
        "2026-01-01T07:00:00Z",
        "2026-01-01T08:00:00Z",
        "2026-01-02T07:00:00Z",
    ]
    assert times("2026-01-01T00:00Z", 1, cron="30 9 * * *", timezone="Asia/Kolkata") == ["2026-01-01T04:00:00Z"]


def test_single_times_are_wall_times_unless_they_have_an_offset() -> None:
    at = ["2026-07-01T08:00", "2026-03-29T02:30", "2026-05-01T08:00Z"]
    assert times("2026-01-01", 9, at=at, timezone="Europe/Berlin") == [
        "2026-03-29T01:00:00Z",  # in the gap: right after it
        "2026-05-01T08:00:00Z",
        "2026-07-01T06:00:00Z",
    ]


def test_exceptions_are_days_times_and_expressions_in_the_zone() -> None:
    found = times(
        "2026-12-22T12:00Z",
        4,
        cron=["0 0,9 * * *"],
        timezone="America/New_York",
        **{"except": ["2026-12-24", "2026-12-25T09:00", "* * * * SAT"]},
    )
    assert found == [
        "2026-12-22T14:00:00Z",
        "2026-12-23T05:00:00Z",
        "2026-12-23T14:00:00Z",
        "2026-12-25T05:00:00Z",
    ]


def test_a_long_exception_costs_one_look_for_each_day() -> None:
    days = [f"2026-01-{day:02}" for day in range(1, 32)]
    assert times("2026-01-01T00:00Z", 1, every=1, **{"except": days}) == ["2026-02-01T00:00:00Z"]


def test_from_and_to_are_times_at_which_it_may_fire() -> None:
    window = {"from": "2026-01-02T00:00Z", "to": "2026-01-03T00:00Z"}
    assert times("2025-01-01", 9, cron="@daily", **window) == ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]


def test_jitter_is_the_same_for_one_firing_and_within_its_bound() -> None:
    found = [jitter_of("nightly", 60.0 * each, 30.0) for each in range(200)]
    assert found == [jitter_of("nightly", 60.0 * each, 30.0) for each in range(200)]
    assert all(0 <= each <= 30 for each in found)
    assert len(set(found)) > 190
    assert jitter_of("nightly", 60.0, 0.0) == 0.0


def test_the_id_of_a_firing_has_the_logical_time_in_utc() -> None:
    assert (
        firing_id("nightly", parse_moment("2026-03-08T07:00Z", zone_of("UTC"))) == "nightly@2026-03-08T07:00:00Z"
    )


@pytest.mark.parametrize(
    ("fields", "path", "says"),
    [
        ({}, "", "has no times"),
        ({"cron": ["0 0 * * *", "0 25 * * *"]}, "/cron/1", "its hour is wrong"),
        ({"cron": ["0 0 * * *"], "every": "5m"}, "/every", "both given"),
        ({"cron": ["0 0 * * *"], "timezone": "Mars/Base"}, "/timezone", "no IANA time zone"),
        ({"cron": ["0 0 * * *"], "phase": "1m"}, "/phase", "is of `every`"),
        ({"every": 0.5}, "/every", "at least 1"),
        ({"at": ["tomorrow"]}, "/at/0", "is no time"),
        ({"every": "5m", "except": ["2026-13-01"]}, "/except/0", "is no time"),
        ({"every": "5m", "except": ["0 0 * *"]}, "/except/0", "has 4 fields"),
        ({"every": "5m", "from": "2026-02-01", "to": "2026-01-01"}, "/to", "is before `from`"),
        ({"cron": "@daily", "except": ["* * * * *"]}, "", "never fires"),
        ({"every": "5m", "overlap": "queue"}, "/overlap", "is none of its values"),
        ({"every": "5m", "catch_up": {"windows": 3}}, "/catch_up/windows", "no field"),
        ({"every": "5m", "crom": []}, "/crom", "no field"),
        ({"every": "5m", "limit": 0}, "/limit", "at least 1"),
        ({"every": "5m", "id": "a@b"}, "/id", "contains '@'"),
    ],
)
def test_what_is_refused_says_where(fields: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_timing({"id": "nightly", **fields})
    [problem] = refused.value.errors
    assert problem.path == path
    assert says in problem.message


def test_exceptions_by_expression_cost_one_look_for_each_hour_or_day() -> None:
    night = {"except": ["* 0-6 * * *", "* * * * SAT,SUN"]}
    assert times("2026-01-02T23:59:59Z", 2, every=1, **night) == ["2026-01-05T07:00:00Z", "2026-01-05T07:00:01Z"]
    quarter = {"except": ["*/15 * * * *"]}
    assert times("2026-01-02T00:14:58Z", 2, every=1, **quarter) == ["2026-01-02T00:14:59Z", "2026-01-02T00:16:00Z"]
    # Within the hour that comes twice, minutes of the second one are excepted too.
    new_york = {"timezone": "America/New_York", "except": ["* 1 * * *"]}
    assert times("2026-11-01T04:59:59Z", 1, every="10m", **new_york) == ["2026-11-01T07:00:00Z"]


def test_the_command_prints_the_next_times_without_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nightly.yaml"
    file.write_text("cron: ['30 2 * * *']\ntimezone: Europe/Berlin\n")
    assert main(["schedules", "next", "2", str(file), "--from", "2026-03-28T12:00Z", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"times": ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]}

    assert main(["schedules", "next", "2", str(file), "--from", "yesterday", "--json"]) == 2
    file.write_text("cron: ['61 * * * *']\n")
    assert main(["schedules", "next", "2", str(file)]) == 2
    assert "/cron/0" in capsys.readouterr().err
