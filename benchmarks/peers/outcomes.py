"""Figures of the systems, as a document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from peers.measures import MEASURES, Measure

NOT_DONE = "not tried"
OVER = "over"
"""Beginning of the reason if a case exceeded the limit."""


@dataclass(frozen=True)
class Figure:
    """A case on one system: the figures of each repetition by name, or the reason why there are none."""

    system: str
    measure: str
    size: int
    samples: tuple[Mapping[str, float], ...] = ()
    missing: str = ""

    @property
    def measured(self) -> bool:
        return bool(self.samples) and not self.missing

    def values(self, name: str) -> list[float]:
        """The named figure of each repetition; none if the case is missing."""
        return [sample[name] for sample in self.samples] if self.measured else []

    def middle(self, name: str) -> float | None:
        """The median of the repetitions, or None if the case is missing."""
        values = self.values(name)
        return median(values) if values else None

    def to_document(self) -> dict[str, Any]:
        names = list(self.samples[0]) if self.measured else []
        return {
            "system": self.system,
            "measure": self.measure,
            "size": self.size,
            "median": {name: round(median(self.values(name)), 4) for name in names},
            "repetitions": [{name: round(value, 4) for name, value in sample.items()} for sample in self.samples],
            "missing": self.missing or None,
        }


@dataclass
class Outcome:
    """A run of the comparison. `settings`: how each system was used, and with which workers."""

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
    def measures(self) -> list[Measure]:
        """The measures that have figures."""
        found = {figure.measure for figure in self.figures}
        return [measure for measure in MEASURES if measure.name in found]

    def sizes(self, measure: Measure) -> list[int]:
        return sorted({figure.size for figure in self.figures if figure.measure == measure.name})

    def systems_of(self, measure: Measure) -> list[str]:
        """The systems that the measure applies to."""
        found = {figure.system for figure in self.figures if figure.measure == measure.name}
        return [system for system in self.systems if system in found]

    def figure(self, system: str, measure: Measure, size: int) -> Figure:
        """The figure of a system and case; if it was not measured, a figure with the reason."""
        key = (system, measure.name, size)
        found = (each for each in self.figures if (each.system, each.measure, each.size) == key)
        return next(found, Figure(*key, missing=NOT_DONE))

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
            Figure(
                each["system"],
                each["measure"],
                each["size"],
                tuple(each["repetitions"]),
                each["missing"] or "",
            )
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
