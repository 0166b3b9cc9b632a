"""The comparison with peers: its tables and its chart from given figures; and which sizes are repeated."""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from peers.__main__ import Measuring
from peers.chart import LEFT, RIGHT, WIDTH, position, svg
from peers.outcomes import Figure, Outcome, markdown, plain, shown, table
from peers.systems import Broken, OverLimit, Servers

SERVERS = Servers("b:1", "redis://r:1/0")


def outcome() -> Outcome:
    figures = [
        Figure("A", 200, (0.5, 0.1, 0.2)),
        Figure("A", 5_000, (2.0, 3.0)),
        Figure("B & co", 200, (4.0,)),
        Figure("B & co", 5_000, (30.0,), "over 60 s"),
    ]
    return Outcome(60.0, 3, {"cores": "2"}, "make bench-peers", {"A": "as it is", "B & co": "two"}, figures)


def test_the_median_is_shown_and_never_that_of_a_size_that_was_over_the_limit_once() -> None:
    assert plain(table(outcome())).splitlines() == [
        "        n = 200           n = 5,000",
        "A       0.20 s (1,000/s)  2.50 s (2,000/s)",
        "B & co  4.00 s (50/s)     over 60 s",
    ]


def test_missing_figures_have_a_reason() -> None:
    assert shown(outcome().figure("A", 7)) == "not tried"


def test_an_outcome_can_be_read_back() -> None:
    document = outcome().to_document()

    assert Outcome.from_document(document).to_document() == document
    assert document["figures"][3]["seconds"] is None


def test_the_page_has_the_figures_the_spread_the_machine_and_the_command() -> None:
    page = markdown(outcome(), "peers.svg")

    assert "| A | 0.20 s (1,000/s) | 2.50 s (2,000/s) |" in page
    assert "| A | 0.10 to 0.50 s | 2.00 to 3.00 s |" in page
    assert "| cores | 2 |" in page
    assert "](peers.svg)" in page
    assert "```sh\nmake bench-peers\n```" in page


def test_the_scale_is_logarithmic_and_ends_at_the_limit() -> None:
    ends = [position(seconds, 100.0) for seconds in (0.0, 0.01, 1.0, 100.0, 1_000.0)]

    assert ends[0] == ends[1] == LEFT
    assert ends[2] == pytest.approx((LEFT + WIDTH - RIGHT) / 2)
    assert ends[3] == ends[4] == WIDTH - RIGHT


def test_the_chart_is_well_formed_and_has_a_bar_for_each_figure() -> None:
    drawing = Xml.fromstring(svg(outcome()))

    bars = [each for each in drawing.iter() if each.tag.endswith("rect")]
    words = [each.text for each in drawing.iter() if each.tag.endswith("text")]
    assert len(bars) == 4
    assert [float(bar.get("width", 0)) > 1 for bar in bars] == [True] * 4
    assert [bar.get("class") for bar in bars] == [None, None, None, "over"]
    assert {"B & co", "n = 5,000", "over 60 s", "0.20 s (1,000/s)"} <= set(words)


class Scripted:
    """A system with scripted outcomes that records its calls."""

    name = "scripted"
    settings = ""

    def __init__(self, *ends: float | Exception) -> None:
        self._ends = list(ends)
        self.asked: list[int] = []

    def prepare(self) -> None: ...

    @contextmanager
    def workers(self, servers: Servers, folder: Path, unique: str) -> Iterator[None]:
        yield

    def fan_out(self, servers: Servers, unique: str, tasks: int, limit: float) -> float:
        self.asked.append(tasks)
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


def measured(system: Scripted, repetitions: int) -> list[Figure]:
    measuring = Measuring(SERVERS, Path(), (1, 2, 3), 60.0)
    for repetition in range(repetitions):
        measuring.repeat(system, repetition)
    return measuring.figures([system])


def test_each_repetition_measures_each_size() -> None:
    figures = measured(Scripted(0.1, 0.2, 0.3, 0.3, 0.4, 0.5), 2)

    assert [(figure.tasks, figure.seconds) for figure in figures] == [
        (1, (0.1, 0.3)),
        (2, (0.2, 0.4)),
        (3, (0.3, 0.5)),
    ]


def test_a_size_over_the_limit_is_not_tried_again_nor_a_larger_one() -> None:
    system = Scripted(0.1, OverLimit(), 0.3)

    figures = measured(system, 2)

    assert system.asked == [1, 2, 1]
    assert [shown(figure) for figure in figures] == ["0.20 s (5/s)", "over 60 s", "not tried"]


def test_a_broken_system_is_reported_as_failed(capsys: pytest.CaptureFixture[str]) -> None:
    figures = measured(Scripted(Broken("no such task")), 1)

    assert shown(figures[0]) == "failed"
    assert "no such task" in capsys.readouterr().err
