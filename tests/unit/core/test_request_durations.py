"""Durations as users write them."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from anabranch.core.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0),
        (2, 2),
        (0.5, 0.5),
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5h", 5400),
        ("1h30m", 5400),
        (" 30s ", 30),
        ("30", 30),
        (timedelta(minutes=2), 120),
    ],
)
def test_what_is_a_duration(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "soon", "-1s", -1, "5 minutes", "5M", "1e3s", True, None, [], math.nan, math.inf, "9999999999s", 10**400],
)
def test_what_is_none(written: object) -> None:
    with pytest.raises(ValueError, match=r"duration|between"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.25, "250ms"), (90, "1m30s"), (86_400, "1d"), (90_061.5, "1d1h1m1s500ms")]
)
def test_a_duration_is_written_as_users_write_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds
