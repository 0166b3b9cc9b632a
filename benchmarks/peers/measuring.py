"""Measures cases on systems, repetition by repetition, and notes what cannot be measured."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from peers.measures import Case
from peers.outcomes import NOT_DONE, OVER, Figure
from peers.processes import Broken, OverLimit
from peers.systems import Servers, System, Workers

Key = tuple[str, str, int]


class Measuring:
    """Collects figures. After a case exceeded the limit or failed, it and larger ones of its measure are not tried
    again; the remaining cases get new workers."""

    def __init__(self, servers: Servers, folder: Path, cases: Sequence[Case], limit: float) -> None:
        """`cases` are measured in this order; those of a measure should be ascending."""
        self._servers = servers
        self._folder = folder
        self._cases = list(cases)
        self._limit = limit
        self._samples: dict[Key, list[dict[str, float]]] = {}
        self._missing: dict[Key, str] = {}
        self._workers = 0

    def repeat(self, system: System) -> None:
        """Measure all cases of a system once."""
        left = [case for case in self._cases if case.measure in system.measures]
        while left := [case for case in left if _key(system, case) not in self._missing]:
            self._workers += 1
            unique = f"peers{os.getpid()}{system.name.lower()}{self._workers}"
            try:
                with system.workers(self._servers, self._folder, unique) as workers:
                    while left and self._measured(system, workers, left[0]):
                        left.pop(0)
            except Broken as error:
                self._skip_larger(system, left[0], "failed", str(error))

    def figures(self, systems: Sequence[System]) -> list[Figure]:
        """The figures collected so far."""
        keys = [_key(each, case) for each in systems for case in self._cases if case.measure in each.measures]
        return [Figure(*key, tuple(self._samples.get(key, ())), self._missing.get(key, "")) for key in keys]

    def _measured(self, system: System, workers: Workers, case: Case) -> bool:
        """Measure one case; returns False if the workers cannot be used any further."""
        try:
            sample = system.measure(workers, case, self._limit)
        except OverLimit as over:
            self._skip_larger(system, case, f"{OVER} {self._limit:g} s", str(over))
            return False
        except Broken as error:
            self._skip_larger(system, case, "failed", str(error))
            return False
        figures = ", ".join(column.text(sample[column.name]) for column in case.measure.columns)
        print(f"{system.name}, {case.words}: {figures}", file=sys.stderr, flush=True)
        self._samples.setdefault(_key(system, case), []).append(sample)
        return True

    def _skip_larger(self, system: System, case: Case, reason: str, detail: str) -> None:
        told = f"{reason}: {detail}" if detail else reason
        print(f"{system.name}, {case.words}: {told}", file=sys.stderr, flush=True)
        for other in self._cases:
            if other.measure is case.measure and other.size >= case.size:
                self._missing[_key(system, other)] = reason if other == case else NOT_DONE


def _key(system: System, case: Case) -> Key:
    return system.name, case.measure.name, case.size
