"""Figures of the systems, as a document and as tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

NOT_DONE = "not tried"
OVER = "over"
"""Beginning of the reason if a fan-out exceeded the limit."""


@dataclass(frozen=True)
class Figure:
    """Fan-outs of `tasks` on one system: the seconds of each repetition, or the reason why there are none."""

    system: str
    tasks: int
    seconds: tuple[float, ...] = ()
    missing: str = ""

    @property
    def middle(self) -> float | None:
        return median(self.seconds) if self.seconds and not self.missing else None

    def to_document(self) -> dict[str, Any]:
        middle = self.middle
        return {
            "system": self.system,
            "tasks": self.tasks,
            "seconds": None if middle is None else round(middle, 4),
            "tasks_per_second": None if middle is None else round(self.tasks / middle, 1),
            "repetitions": [round(each, 4) for each in self.seconds],
            "missing": self.missing or None,
        }


@dataclass
class Outcome:
    """A run of the comparison. `settings`: how the workers of each system were run."""

    limit: float
    repetitions: int
    machine: Mapping[str, str]
    command: str
    settings: Mapping[str, str]
    figures: list[Figure] = field(default_factory=list)

    @property
    def systems(self) -> list[str]:
        return list(self.settings)

    @property
    def sizes(self) -> list[int]:
        return sorted({figure.tasks for figure in self.figures})

    def figure(self, system: str, tasks: int) -> Figure:
        """The figure of a system and size; if it was not measured, a figure with the reason."""
        found = (each for each in self.figures if (each.system, each.tasks) == (system, tasks))
        return next(found, Figure(system, tasks, missing=NOT_DONE))

    def to_document(self) -> dict[str, Any]:
        """The document of `--json`."""
        return {
            "limit_seconds": self.limit,
            "repetitions": self.repetitions,
            "command": self.command,
            "machine": dict(self.machine),
            "settings": dict(self.settings),
            "figures": [figure.to_document() for figure in self.figures],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Outcome:
        """Rebuild an outcome from its document, to draw it again."""
        figures = [
            Figure(each["system"], each["tasks"], tuple(each["repetitions"]), each["missing"] or "")
            for each in document["figures"]
        ]
        return cls(
            document["limit_seconds"],
            document["repetitions"],
            document["machine"],
            document["command"],
            document["settings"],
            figures,
        )


def shown(figure: Figure) -> str:
    """Format a figure as `2.31 s (8,658/s)`, or as the reason why it is missing."""
    middle = figure.middle
    if middle is None:
        return figure.missing
    return f"{middle:.2f} s ({figure.tasks / middle:,.0f}/s)"


def table(outcome: Outcome) -> list[list[str]]:
    """The header row, and a row for each system."""
    header = ["", *(f"n = {tasks:,}" for tasks in outcome.sizes)]
    return [header, *([system, *_row(outcome, system)] for system in outcome.systems)]


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Format a table as plain text in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(lines) + "\n"


def markdown(outcome: Outcome, chart: str) -> str:
    """The page with the chart, the tables, the machine, the settings of the workers, and the command."""
    header, *rows = table(outcome)
    lines = [
        "# Fan out and join: measured",
        "",
        f"No-op tasks, fanned out and joined, every result stored: seconds, and tasks per second. The median of "
        f"{outcome.repetitions} repetitions, with a limit of {outcome.limit:g} s. Measured by the command below; "
        "[README.md](README.md) describes the method.",
        "",
        f"![Seconds of each system, on a logarithmic scale; the table below has the same figures]({chart})",
        "",
        _markdown_row(header),
        "|" + "---|" * len(header),
        *(_markdown_row(row) for row in rows),
        "",
        "The fastest and the slowest repetition:",
        "",
        _markdown_row(header),
        "|" + "---|" * len(header),
        *(_markdown_row([system, *_spreads(outcome, system)]) for system in outcome.systems),
        "",
        "| system | versions and command |",
        "|---|---|",
        *(_markdown_row([system, how]) for system, how in outcome.settings.items()),
        "",
        "| machine | |",
        "|---|---|",
        *(_markdown_row([name, value]) for name, value in outcome.machine.items()),
        "",
        "```sh",
        outcome.command,
        "```",
    ]
    return "\n".join(lines) + "\n"


def _row(outcome: Outcome, system: str) -> list[str]:
    return [shown(outcome.figure(system, tasks)) for tasks in outcome.sizes]


def _spreads(outcome: Outcome, system: str) -> list[str]:
    return [_spread(outcome.figure(system, tasks)) for tasks in outcome.sizes]


def _spread(figure: Figure) -> str:
    if figure.middle is None:
        return figure.missing
    return f"{min(figure.seconds):.2f} to {max(figure.seconds):.2f} s"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
