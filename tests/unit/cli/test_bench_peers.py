"""The comparison with peers: its tables, verdicts and charts from given figures; and which cases are repeated."""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from peers.chart import LEFT, RIGHT, WIDTH, Scale, scale_of, svg
from peers.measures import FANOUT, JOIN_LAG, RUNS, SINGLE, Case, Measure
from peers.measuring import Measuring
from peers.outcomes import Figure, Outcome
from peers.page import page
from peers.processes import Broken, OverLimit
from peers.systems import Servers, Workers
from peers.tables import cell, plain, spread_table, tables
from peers.verdicts import verdict_table, verdicts, wins

SERVERS = Servers("b:1", "redis://r:1/0")
A, B = "A", "B & co"


def fanouts(system: str, tasks: int, seconds: tuple[float, ...], missing: str = "") -> Figure:
    return Figure(system, "fanout", tasks, tuple({"seconds": each} for each in seconds), missing)


def runs(system: str, rate: float, p99: float, cpu: float) -> Figure:
    samples = [
        {"runs_per_second": rate * by, "p50_ms": 1.0, "p99_ms": p99 * by, "cpu_ms": cpu} for by in (0.9, 1, 1.2)
    ]
    return Figure(system, "runs", 50, tuple(samples))


def outcome(*more: Figure) -> Outcome:
    figures = [
        fanouts(A, 200, (0.5, 0.1, 0.2)),
        fanouts(A, 5_000, (2.0, 3.0)),
        fanouts(B, 200, (4.0,)),
        fanouts(B, 5_000, (30.0,), "over 60 s"),
        *more,
    ]
    return Outcome(60.0, 3, {"cores": "2"}, "make bench-peers", {A: "as it is", B: "two"}, figures)


SMALL = (
    runs(A, 40.0, 1_000.0, 6.0),
    runs(B, 20.0, 1_100.0, 3.0),
    Figure(A, "join-lag", 20, ({"p50_ms": 5.14, "p99_ms": 9.4},)),
)


def test_the_median_is_shown_and_never_that_of_a_size_that_was_over_the_limit_once() -> None:
    [table] = tables(outcome(), FANOUT)

    assert plain(table).splitlines() == [
        "        n = 200           n = 5,000",
        "A       0.20 s (1,000/s)  2.50 s (2,000/s)",
        "B & co  4.00 s (50/s)     over 60 s",
    ]


def test_small_runs_have_a_table_for_each_number_at_once() -> None:
    [table] = tables(outcome(*SMALL), RUNS)

    assert plain(table).splitlines() == [
        "50 at once  runs per second  median  p99       processor time per run",
        "A           40.0/s           1 ms    1,000 ms  6.0 ms",
        "B & co      20.0/s           1 ms    1,100 ms  3.0 ms",
    ]


def test_a_measure_of_one_system_has_only_that_system() -> None:
    [table] = tables(outcome(*SMALL), JOIN_LAG)

    assert table == [["", "median", "p99"], [A, "5.1 ms", "9.4 ms"]]


def test_missing_figures_have_a_reason() -> None:
    assert cell(outcome().figure(A, FANOUT, 7), FANOUT.columns[0]) == "not tried"


def test_an_outcome_can_be_read_back() -> None:
    document = outcome(*SMALL).to_document()

    assert Outcome.from_document(document).to_document() == document
    assert (document["figures"][3]["median"], document["figures"][3]["missing"]) == ({}, "over 60 s")
    assert document["figures"][0]["median"] == {"seconds": 0.2}


def test_the_page_has_the_figures_the_spread_the_machine_and_the_command() -> None:
    text = page(outcome(*SMALL), {"fanout": "peers.svg"})

    assert "| A | 0.20 s (1,000/s) | 2.50 s (2,000/s) |" in text
    assert "| A | 0.10 to 0.50 s | 2.00 to 3.00 s |" in text
    assert "| cores | 2 |" in text
    assert text.count("](peers.svg)") == 1
    assert 'skip="measures for minutes"\nmake bench-peers\n```' in text
    assert "- A: best in fan-out of 200 (seconds); fan-out of 5,000 (seconds)" in text


def test_the_spread_is_that_of_the_judged_figures() -> None:
    header, first, _ = spread_table(outcome(*SMALL), RUNS)

    assert header[1:] == ["50 at once: runs per second", "50 at once: p99", "50 at once: processor time per run"]
    assert first == [A, "36.0 to 48.0/s", "900 to 1,200 ms", "6.0 to 6.0 ms"]


# --- verdicts -------------------------------------------------------------------------------------


def test_a_system_wins_alone_only_where_its_repetitions_are_apart() -> None:
    found = verdicts(outcome(*SMALL))

    assert verdict_table(found, [A, B])[1:] == [
        ["fan-out of 200: seconds", "best", "20.0 times worse"],
        ["fan-out of 5,000: seconds", "best", "over 60 s"],
        ["small runs, 50 at once: runs per second", "best", "2.0 times worse"],
        ["small runs, 50 at once: p99", "best, ranges overlap", "best, ranges overlap"],
        ["small runs, 50 at once: processor time per run", "2.0 times worse", "best"],
    ]
    assert wins(found, [A, B]) == [
        "A: best in fan-out of 200 (seconds); fan-out of 5,000 (seconds); small runs, 50 at once (runs per second)"
        ". It shares the best in small runs, 50 at once (p99).",
        "B & co: best in small runs, 50 at once (processor time per run). "
        "It shares the best in small runs, 50 at once (p99).",
    ]


def test_a_system_that_wins_nothing_is_listed() -> None:
    assert wins(verdicts(outcome()), [A, B])[1] == "B & co: best in nothing that was measured."


def test_nobody_wins_what_no_system_completed() -> None:
    [found] = verdicts(
        Outcome(1.0, 1, {}, "", {A: "", B: ""}, [fanouts(A, 9, (), "failed"), fanouts(B, 9, (), "")])
    )

    assert (found.winners, found.standings[A]) == ((), "failed")


# --- charts ---------------------------------------------------------------------------------------


def test_the_scale_is_logarithmic_and_ends_at_the_limit() -> None:
    scale = Scale(0.01, 100.0)

    ends = [scale.position(seconds) for seconds in (0.0, 0.01, 1.0, 100.0, 1_000.0)]

    assert ends[0] == ends[1] == LEFT
    assert ends[2] == pytest.approx((LEFT + WIDTH - RIGHT) / 2)
    assert ends[3] == ends[4] == WIDTH - RIGHT


def test_the_scale_of_other_figures_has_the_decades_around_them() -> None:
    assert scale_of(outcome(*SMALL), RUNS) == Scale(10.0, 100.0)
    assert scale_of(outcome(), RUNS) == Scale(1.0, 10.0)


def test_the_chart_is_well_formed_and_has_a_bar_for_each_figure() -> None:
    drawing = Xml.fromstring(svg(outcome(), FANOUT))

    bars = [each for each in drawing.iter() if each.tag.endswith("rect")]
    words = [each.text for each in drawing.iter() if each.tag.endswith("text")]
    assert len(bars) == 4
    assert [float(bar.get("width", 0)) > 1 for bar in bars] == [True] * 4
    assert [bar.get("class") for bar in bars] == [None, None, None, "over"]
    assert {B, "n = 5,000", "over 60 s", "0.20 s (1,000/s)"} <= set(words)


def test_a_chart_of_rates_has_no_bar_for_a_missing_figure() -> None:
    drawing = Xml.fromstring(svg(outcome(SMALL[0], Figure(B, "runs", 50, missing="over 60 s")), RUNS))

    widths = [float(each.get("width", 0)) for each in drawing.iter() if each.tag.endswith("rect")]
    assert widths[0] > 1
    assert widths[1] == 0.0


# --- measuring ------------------------------------------------------------------------------------


class Scripted:
    """A system with scripted outcomes that records its calls."""

    name = "scripted"
    settings = ""

    def __init__(self, *ends: float | Exception, measures: tuple[Measure, ...] = (FANOUT, SINGLE)) -> None:
        self.measures = measures
        self._ends = list(ends)
        self.asked: list[int] = []
        self.started = 0

    def prepare(self) -> None: ...

    @contextmanager
    def workers(self, servers: Servers, folder: Path, unique: str) -> Iterator[Workers]:
        self.started += 1
        yield Workers(servers, unique)

    def measure(self, workers: Workers, case: Case, limit: float) -> dict[str, float]:
        self.asked.append(case.size)
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return {column.name: end for column in case.measure.columns}


FANOUTS = tuple(Case(FANOUT, size) for size in (1, 2, 3))


def measured(system: Scripted, repetitions: int, cases: tuple[Case, ...] = FANOUTS) -> list[Figure]:
    measuring = Measuring(SERVERS, Path(), cases, 60.0)
    for _ in range(repetitions):
        measuring.repeat(system)
    return measuring.figures([system])


def test_each_repetition_measures_each_size() -> None:
    figures = measured(Scripted(0.1, 0.2, 0.3, 0.3, 0.4, 0.5), 2)

    assert [(figure.size, figure.values("seconds")) for figure in figures] == [
        (1, [0.1, 0.3]),
        (2, [0.2, 0.4]),
        (3, [0.3, 0.5]),
    ]


def test_a_size_over_the_limit_is_not_tried_again_nor_a_larger_one() -> None:
    system = Scripted(0.1, OverLimit(), 0.3)

    figures = measured(system, 2)

    assert system.asked == [1, 2, 1]
    assert [cell(figure, FANOUT.columns[0]) for figure in figures] == ["0.20 s", "over 60 s", "not tried"]


def test_the_other_measures_are_measured_on_new_workers() -> None:
    system = Scripted(OverLimit("1 of 2 ended"), 0.5)

    figures = measured(system, 1, (Case(SINGLE, 1, 2), Case(FANOUT, 7)))

    assert (system.asked, system.started) == ([1, 7], 2)
    assert [figure.missing for figure in figures] == ["over 60 s", ""]


def test_a_measure_that_does_not_apply_is_not_measured() -> None:
    system = Scripted(0.5, measures=(FANOUT,))

    [figure] = measured(system, 1, (Case(JOIN_LAG, 20, 2), Case(FANOUT, 7)))

    assert (system.asked, figure.measure) == ([7], "fanout")


def test_a_broken_system_is_reported_as_failed(capsys: pytest.CaptureFixture[str]) -> None:
    figures = measured(Scripted(Broken("no such task")), 1)

    assert figures[0].missing == "failed"
    assert "no such task" in capsys.readouterr().err
