"""What is compared: the measures, their figures, and how each figure is written. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anabranch.cli.bench.distribution import Distribution


@dataclass(frozen=True)
class Column:
    """A figure of a measure.

    Attributes:
        unit: follows the number, as in `3.9 ms` or `52.1/s`.
        lower_wins: a smaller figure is the better one.
    """

    name: str
    heading: str
    unit: str
    digits: int
    lower_wins: bool = True

    def text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}{self.unit}"


@dataclass(frozen=True)
class Measure:
    """A kind of work that all systems do.

    Attributes:
        about: what is measured, as a paragraph of the page.
        size: format of the size of a case, as the head of a column.
        case: format of a whole case.
        columns: its figures; the first is drawn.
        judged: names of the figures by which systems are compared.
    """

    name: str
    title: str
    about: str
    size: str
    case: str
    columns: tuple[Column, ...]
    judged: tuple[str, ...]

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True)
class Case:
    """A measure at one size: members of a fan-out, or runs at once. `count`: number of runs or requests."""

    measure: Measure
    size: int
    count: int = 1

    @property
    def words(self) -> str:
        return self.measure.case.format(self.size)


MEDIAN = Column("p50_ms", "median", " ms", 1)
P99 = Column("p99_ms", "p99", " ms", 1)

FANOUT = Measure(
    "fanout",
    "Fan out and join",
    "No-op tasks, fanned out and joined, every result stored: seconds, and tasks per second.",
    "n = {:,}",
    "fan-out of {:,}",
    (Column("seconds", "seconds", " s", 2),),
    ("seconds",),
)
RUNS = Measure(
    "runs",
    "Small runs",
    "Runs of three groups of three no-op tasks. Each task needs the values of all three tasks of the group "
    "before. Processor time is that of all workers and services until they are idle again, for each run, without "
    "the client, the broker and Redis.",
    "{:,} at once",
    "small runs, {:,} at once",
    (
        Column("runs_per_second", "runs per second", "/s", 1, False),
        Column("p50_ms", "median", " ms", 0),
        Column("p99_ms", "p99", " ms", 0),
        Column("cpu_ms", "processor time per run", " ms", 1),
    ),
    ("runs_per_second", "p99_ms", "cpu_ms"),
)
SINGLE = Measure(
    "single",
    "One task",
    "One no-op task on idle workers, one after another, from just before it is sent to its result at the client.",
    "",
    "one task",
    (MEDIAN, P99),
    ("p50_ms", "p99_ms"),
)
JOIN_LAG = Measure(
    "join-lag",
    "Join lag",
    "From the end of the last of 20 members to the start of the task that depends on their join, by the clocks of "
    "the workers.",
    "",
    "join lag",
    (MEDIAN, P99),
    (),
)
MEASURES = (FANOUT, RUNS, SINGLE, JOIN_LAG)


def spread_figures(durations: Sequence[float]) -> dict[str, float]:
    """`p50_ms` and `p99_ms` of durations in seconds."""
    figures = Distribution.of(durations).milliseconds()
    return {name: figures[name] for name in ("p50_ms", "p99_ms")}


def figures_of(measure: Measure, document: Mapping[str, float]) -> dict[str, float]:
    """The measure's figures in a larger document. Raises KeyError if one is missing."""
    return {column.name: float(document[column.name]) for column in measure.columns}
