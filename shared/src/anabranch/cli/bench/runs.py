"""`bench runs`: many concurrent runs, each with three groups of three tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from anabranch.cli.bench.client import BenchClient, MeasuredRun, with_members
from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.processor_time import OPTION, idle_processor_seconds, names_of, processor_seconds
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import Document, three_by_three_request
from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.settings import Settings

TASKS = 9
WARM_UP_RUNS = 5
"""Warm-up runs, which open connections and load code; not counted."""


@dataclass(frozen=True, slots=True)
class Level:
    """Runs with the same number at once.

    Attributes:
        seconds: duration of all runs together.
        spread: duration of each run in seconds.
        processor: processor time of each run in seconds, by process; empty if it was not measured.
    """

    at_once: int
    seconds: float
    spread: Distribution
    processor: Mapping[str, float] = field(default_factory=dict)

    def to_document(self) -> Document:
        """The figures of `--json`."""
        count = len(self.spread.values)
        document: dict[str, Any] = {
            "runs": count,
            "at_once": self.at_once,
            "seconds": round(self.seconds, 4),
            "runs_per_second": round(count / self.seconds, 1),
            "tasks_per_second": round(count * TASKS / self.seconds, 1),
            **self.spread.milliseconds(),
        }
        if self.processor:
            document["cpu_ms"] = round(sum(self.processor.values()) * 1000, 3)
            document["cpu_ms_by_process"] = {
                name: round(value * 1000, 3) for name, value in self.processor.items()
            }
        return document

    def rows(self) -> list[tuple[str, str, str]]:
        """Rows of the table: name, figure, remark."""
        count = len(self.spread.values)
        rows = [
            ("all runs", milliseconds(self.seconds), f"{count:,} runs, {self.at_once:,} at a time"),
            ("runs per second", f"{count / self.seconds:,.1f}", "three groups of three tasks each"),
            ("tasks per second", f"{count * TASKS / self.seconds:,.0f}", ""),
        ]
        if self.processor:
            parts = ", ".join(f"{name} {milliseconds(value)}" for name, value in self.processor.items())
            rows.append(("processor time per run", milliseconds(sum(self.processor.values())), parts))
        return rows

    def row(self) -> tuple[str, str, str]:
        """The only row of a level in a table of several."""
        median, p99 = milliseconds(self.spread.median), milliseconds(self.spread.at(0.99))
        used = f", processor time {milliseconds(sum(self.processor.values()))} a run" if self.processor else ""
        per_second = len(self.spread.values) / self.seconds
        remark = f"runs a second, median {median}, p99 {p99}{used}"
        return f"{self.at_once:,} at once", f"{per_second:,.1f}", remark


async def runs(
    settings: Settings, options: BenchOptions, count: int, levels: Sequence[int], processes: Sequence[int] = ()
) -> int:
    """Measure `count` runs at each level and print; returns the exit code.

    Args:
        levels: numbers of runs at once.
        processes: process ids of the services, whose processor time is measured; empty to measure none.

    Raises:
        ServerUnavailable, Misconfigured: as `run_bench`, or a process does not run on this machine.
    """
    if processes and options.embedded:
        raise Misconfigured(OPTION, "an embedded system shares its process with the client", "omit --embedded")
    if processes:
        processor_seconds(processes)  # raises before anything is measured
    words = f"{count:,} runs of three groups of three tasks, {_listed(levels)} at once"
    measure = partial(_measure, count=count, levels=levels, processes=processes)
    return await run_bench(settings, options, words, measure)


async def run_concurrently(client: BenchClient, document: Document, count: int, at_once: int) -> list[MeasuredRun]:
    """Run a request `count` times, at most `at_once` concurrently. Raises NotMeasured at the first failure."""
    places = asyncio.Semaphore(at_once)

    async def one() -> MeasuredRun:
        async with places:
            return with_members(await client.run(document), TASKS)

    asked = [asyncio.ensure_future(one()) for _ in range(count)]
    try:
        return list(await asyncio.gather(*asked))
    finally:
        for each in asked:
            each.cancel()


async def _measure(
    client: BenchClient, count: int, levels: Sequence[int], processes: Sequence[int]
) -> Measurement:
    for _ in range(WARM_UP_RUNS):
        await client.run(three_by_three_request())
    return runs_report([await _level(client, count, at_once, processes) for at_once in levels])


async def _level(client: BenchClient, count: int, at_once: int, processes: Sequence[int]) -> Level:
    before = await idle_processor_seconds(processes) if processes else {}
    began = client.clock.monotonic()
    ended = await run_concurrently(client, three_by_three_request(), count, at_once)
    seconds = client.clock.monotonic() - began
    after = await idle_processor_seconds(processes) if processes else {}
    spread = Distribution.of([each.seconds for each in ended])
    return Level(at_once, seconds, spread, per_run(before, after, names_of(processes), count))


def per_run(
    before: Mapping[int, float], after: Mapping[int, float], names: Mapping[int, str], count: int
) -> dict[str, float]:
    """Processor time of one of `count` runs, by process name, from two readings by process id."""
    used: dict[str, float] = {}
    for pid, name in names.items():
        used[name] = used.get(name, 0.0) + (after[pid] - before[pid]) / count
    return used


def runs_report(levels: Sequence[Level]) -> Measurement:
    """The figures and the table. With several levels, the document is `{"levels": [...]}`, and each has a row."""
    documents = [level.to_document() for level in levels]
    document = documents[0] if len(levels) == 1 else {"levels": documents}
    rows = levels[0].rows() if len(levels) == 1 else [level.row() for level in levels]
    names = ["one run" if len(levels) == 1 else f"one run, {level.at_once:,} at once" for level in levels]
    spreads = list(zip(names, (level.spread for level in levels), strict=True))
    return Measurement("Many concurrent runs", document, rows, spreads)


def _listed(levels: Sequence[int]) -> str:
    return ", ".join(f"{level:,}" for level in levels)
