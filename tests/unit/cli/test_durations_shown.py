"""Durations in the output are in the largest unit that says enough."""

from __future__ import annotations

import pytest

from anabranch.cli.render.output import seconds


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0124, "12 ms"),
        (3.44, "3.4 s"),
        (119.9, "119.9 s"),
        (150.0, "2.5 min"),
        (7_199.0, "120.0 min"),
        (11_160.0, "3.1 h"),
        (266_400.0, "3.1 days"),
        (31_536_000.0, "365.0 days"),
    ],
)
def test_a_duration_is_shown_in_a_fitting_unit(value: float, shown: str) -> None:
    assert seconds(value) == shown
