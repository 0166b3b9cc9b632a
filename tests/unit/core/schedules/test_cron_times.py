"""Times of cron expressions through changes of the clocks, against a model of Debian's cron that lives minute by
minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from anabranch.core.schedules.cron import Cron
from anabranch.core.schedules.zones import zone_of
from anabranch.core.timestamps import utc_text


def debian(expression: str, zone_name: str, start: float, end: float) -> list[str]:
    """When Debian's cron would run a job in (start, end]: it wakes up at each real minute, runs jobs of fixed
    times for the wall minutes that were skipped, once, and does not run them again until the wall time is past its
    highest."""
    cron, zone = Cron(expression), zone_of(zone_name)
    minute, hour, *_ = expression.split()
    is_wild = minute.startswith("*") or hour.startswith("*")
    found, moment = [], start
    highest = datetime.fromtimestamp(start, zone).replace(tzinfo=None)
    while moment < end:
        moment += 60
        wall = datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)
        if is_wild:
            runs = cron.matches(wall)
        else:
            passed = int((wall - highest).total_seconds() // 60)
            runs = any(cron.matches(highest + timedelta(minutes=each)) for each in range(1, passed + 1))
        highest = max(highest, wall)
        if runs:
            found.append(utc_text(moment))
    return found


NEW_YORK, LORD_HOWE = "America/New_York", "Australia/Lord_Howe"
CHANGES = {
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Europe/London": ("2026-03-29", "2026-10-25"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),  # half an hour
    "Pacific/Apia": ("2011-12-30",),  # a whole day is skipped
    "America/Havana": ("2026-03-08", "2026-11-01"),  # at midnight
    "Asia/Beirut": ("2025-03-30", "2025-10-26"),  # at midnight, from and to the day before
    "Africa/Casablanca": ("2025-02-23", "2025-04-06"),  # the other way round
    "Antarctica/Troll": ("2026-03-29", "2026-10-25"),  # two hours
    "Asia/Kathmandu": ("2026-03-29",),  # an offset of 45 minutes, and no change
    "Asia/Pyongyang": ("2018-05-05",),  # half an hour, for good, at midnight
}
EXPRESSIONS = (
    "0 0 * * *",
    "0,30 2 * * *",
    "15 1,2,3 * * *",
    "*/20 * * * *",
    "*/15 1-3 * * *",
    "30 * * * *",
    "0 * * * *",
    "*/10 0 * * *",
    "0 */2 * * *",
    "0 12 30 * *",
)


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_changes_of_the_clocks_are_those_of_debian(zone: str, expression: str) -> None:
    for day in CHANGES[zone]:
        start = (datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=28)).timestamp()
        end = start + 46 * 3600
        cron, place, found, at = Cron(expression), zone_of(zone), [], start
        while (following := cron.after(at, place)) is not None and following <= end:
            at = following
            found.append(utc_text(at))
        assert found == debian(expression, zone, start, end)


@pytest.mark.parametrize(
    ("expression", "zone", "start", "times"),
    [
        # The gap: once, right after it; with several times in it, too.
        ("30 2 * * *", NEW_YORK, "2026-03-08T00:00-05:00", ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]),
        ("0,30 2 * * *", NEW_YORK, "2026-03-08T00:00-05:00", ["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"]),
        ("0 2,3 * * *", NEW_YORK, "2026-03-08T00:00-05:00", ["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"]),
        # The hour that comes twice: the first time only.
        ("30 1 * * *", NEW_YORK, "2026-11-01T00:00-04:00", ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]),
        # Asked within the second of the two hours, whose wall time was before.
        ("50 1 * * *", NEW_YORK, "2026-11-01T06:10:00Z", ["2026-11-02T06:50:00Z"]),
        # Minutes that elapse.
        ("30 * * * *", NEW_YORK, "2026-11-01T05:00Z", ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"]),
        ("*/30 2 * * *", NEW_YORK, "2026-03-08T05:00:00Z", ["2026-03-09T06:00:00Z"]),
        # Half an hour: the clock shows 2:30 right after 1:59.
        ("30 * * * *", LORD_HOWE, "2026-10-03T14:45Z", ["2026-10-03T15:00:00Z", "2026-10-03T15:30:00Z"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00Z", ["2026-10-03T15:30:00Z"]),
        # A day that a zone skips.
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00-10:00", ["2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]),
        # Rare days.
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00Z", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("0 0 29 2 *", "UTC", "2097-01-01T00:00Z", ["2104-02-29T00:00:00Z"]),
        ("0 9 L * *", "UTC", "2028-02-01T00:00Z", ["2028-02-29T09:00:00Z", "2028-03-31T09:00:00Z"]),
        ("0 9 * * MON#2", "UTC", "2026-03-01T00:00Z", ["2026-03-09T09:00:00Z", "2026-04-13T09:00:00Z"]),
        ("0 9 * * 5L", "UTC", "2026-03-01T00:00Z", ["2026-03-27T09:00:00Z", "2026-04-24T09:00:00Z"]),
        # Day of month or of week, unless one begins with a star.
        ("0 0 13 * FRI", "UTC", "2026-02-10T00:00Z", ["2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z"]),
        ("0 0 */2 * FRI", "UTC", "2026-02-10T00:00Z", ["2026-02-13T00:00:00Z", "2026-02-27T00:00:00Z"]),
        ("@monthly", "Europe/Berlin", "2026-03-15T00:00Z", ["2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"]),
    ],
)  # fmt: skip
def test_single_times(expression: str, zone: str, start: str, times: list[str]) -> None:
    at, found = datetime.fromisoformat(start).timestamp(), []
    for _ in times:
        following = Cron(expression).after(at, zone_of(zone))
        assert following is not None
        at = following
        found.append(utc_text(at))
    assert found == times


def test_a_time_between_two_minutes_has_the_next_minute() -> None:
    assert Cron("* * * * *").after(59.5, zone_of("UTC")) == 60.0
    assert Cron("* * * * *").after(60.0, zone_of("UTC")) == 120.0
    assert Cron("1 0 * * *").after(59.5, zone_of("UTC")) == 60.0


def test_an_expression_without_a_day_has_no_time() -> None:
    assert Cron("*/5 0 */31 * MON#2").after(0.0, zone_of("UTC")) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("61 * * * *", "its minute is wrong"),
        ("* 24 * * *", "its hour is wrong"),
        ("0 0 31 2 *", "its day-of-month is wrong"),
        ("* * * JANUARY *", "its month is wrong"),
        ("* * * * MON#6", "its day-of-week is wrong"),
        ("*/0 * * * *", "its minute is wrong"),
        ("0 0 * *", "has 4 fields"),
        ("0 0 0 * * *", "there is no field of seconds"),
        ("@reboot", "is none of @yearly"),
        ("", "has 0 fields"),
    ],
)
def test_wrong_expressions_name_the_field(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Cron(text)


def test_a_zone_is_read_from_the_pinned_package() -> None:
    assert zone_of("Europe/Berlin").key == "Europe/Berlin"
    with pytest.raises(ValueError, match="did you mean Europe/Berlin"):
        zone_of("Europe/Berlim")
    with pytest.raises(ValueError, match="did you mean UTC"):
        zone_of("utc")


def test_every_time_is_after_the_one_before() -> None:
    for zone in CHANGES:
        for expression in EXPRESSIONS:
            at = 1_767_000_000.0
            for _ in range(10):
                following = Cron(expression).after(at, zone_of(zone))
                assert following is not None
                assert following > at
                at = following
