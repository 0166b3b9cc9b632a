"""Writes the page of an outcome in Markdown, with the names of its charts. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from peers.measures import Measure
from peers.outcomes import Outcome
from peers.tables import markdown, spread_table, tables
from peers.verdicts import verdict_table, verdicts, wins


def page(outcome: Outcome, charts: Mapping[str, str]) -> str:
    """The page: where each system wins, the tables of each measure, systems, machine and command.

    Args:
        charts: file of the chart of a measure, by the measure's name.
    """
    lines = [
        "# Benchmarks beside other systems",
        "",
        "Measured in one session on one machine and the same servers, by the command below, which wrote this "
        f"page. Number of repetitions: {outcome.repetitions}; each figure is their median. The benchmark aborted "
        f"a case that took longer than {outcome.limit:g} s. "
        "[README.md](README.md#beside-other-systems) describes the method.",
        "",
        *_verdicts(outcome),
    ]
    for measure in outcome.measures:
        lines += _section(outcome, measure, charts.get(measure.name))
    lines += [
        "## How",
        "",
        *markdown(
            [["system", "versions, use and command"], *([name, how] for name, how in outcome.settings.items())]
        ),
        "",
        *markdown([["machine", ""], *([name, value] for name, value in outcome.machine.items())]),
        "",
        '```sh skip="measures for minutes"',
        outcome.command,
        "```",
    ]
    return "\n".join(lines) + "\n"


def _verdicts(outcome: Outcome) -> list[str]:
    found = verdicts(outcome)
    if len(outcome.systems) < 2 or not found:
        return []
    return [
        "## Where each system wins",
        "",
        *(f"- {sentence}" for sentence in wins(found, outcome.systems)),
        "",
        "A system shares a win if its repetitions overlap with those of the best median: such a difference may be "
        "noise.",
        "",
        *markdown(verdict_table(found, outcome.systems)),
        "",
    ]


def _section(outcome: Outcome, measure: Measure, chart: str | None) -> list[str]:
    lines = [f"## {measure.title}", "", measure.about, ""]
    if chart is not None:
        alt = (
            f"{measure.columns[0].heading} of each system, on a logarithmic scale; the table has the same figures"
        )
        lines += [f"![{alt}]({chart})", ""]
    for rows in tables(outcome, measure):
        lines += [*markdown(rows), ""]
    lines += ["The lowest and the highest repetition:", "", *markdown(spread_table(outcome, measure)), ""]
    return lines
