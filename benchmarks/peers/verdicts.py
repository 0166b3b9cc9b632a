"""Says which system wins at what, from the figures alone. Pure.

A system shares a win if its repetitions overlap with those of the best median: such a difference may be noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peers.measures import Column
from peers.outcomes import Figure, Outcome
from peers.tables import Table

BEST = "best"
SHARED = "best, ranges overlap"


@dataclass(frozen=True)
class Verdict:
    """A judged figure of one case.

    Attributes:
        figure: heading of the figure.
        standings: for each system, that it is the best, its distance from the best, or why it is missing.
        winners: the best system, and those that overlap with it; empty if only one system was asked.
    """

    case: str
    figure: str
    standings: dict[str, str]
    winners: tuple[str, ...]


def verdicts(outcome: Outcome) -> list[Verdict]:
    """The verdict on each judged figure of each case."""
    found = []
    for measure in outcome.measures:
        for size in outcome.sizes(measure):
            figures = [outcome.figure(system, measure, size) for system in outcome.systems_of(measure)]
            for name in measure.judged:
                found.append(_verdict(measure.case.format(size), figures, measure.column(name)))
    return found


def verdict_table(found: Sequence[Verdict], systems: Sequence[str]) -> Table:
    """A row for each verdict and a column for each system."""
    rows = [[f"{each.case}: {each.figure}", *(each.standings.get(name, "") for name in systems)] for each in found]
    return [["", *systems], *rows]


def wins(found: Sequence[Verdict], systems: Sequence[str]) -> list[str]:
    """A sentence for each system: where it is the best, alone or with others."""
    sentences = []
    for system in systems:
        alone = _by_case([each for each in found if each.winners == (system,)])
        shared = _by_case([each for each in found if len(each.winners) > 1 and system in each.winners])
        parts = [f"best in {alone}"] if alone else []
        parts += [f"shares the best in {shared}"] if shared else []
        sentences.append(f"{system}: {'. It '.join(parts) or 'best in nothing that was measured'}.")
    return sentences


def _by_case(found: Sequence[Verdict]) -> str:
    """`one task (median, p99); fan-out of 200 (seconds)`."""
    cases = {each.case: [other.figure for other in found if other.case == each.case] for each in found}
    return "; ".join(f"{case} ({', '.join(figures)})" for case, figures in cases.items())


def _verdict(case: str, figures: Sequence[Figure], column: Column) -> Verdict:
    measured = {figure.system: figure for figure in figures if figure.measured}
    standings = {figure.system: figure.missing for figure in figures}
    if not measured:
        return Verdict(case, column.heading, standings, ())
    middles = {system: _middle(figure, column) for system, figure in measured.items()}
    best = (min if column.lower_wins else max)(middles, key=lambda system: middles[system])
    winners = [
        name for name, figure in measured.items() if name == best or _overlap(figure, measured[best], column)
    ]
    for system, middle in middles.items():
        standings[system] = (BEST if len(winners) == 1 else SHARED) if system in winners else ""
        standings[system] = standings[system] or _distance(middle, middles[best], column)
    return Verdict(case, column.heading, standings, tuple(winners) if len(figures) > 1 else ())


def _overlap(one: Figure, other: Figure, column: Column) -> bool:
    ours, theirs = one.values(column.name), other.values(column.name)
    return min(ours) <= max(theirs) and min(theirs) <= max(ours)


def _distance(middle: float, best: float, column: Column) -> str:
    worse, better = (middle, best) if column.lower_wins else (best, middle)
    return f"{worse / better:,.1f} times worse" if better else "worse"


def _middle(figure: Figure, column: Column) -> float:
    middle = figure.middle(column.name)
    assert middle is not None
    return middle
