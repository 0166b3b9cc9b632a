"""`bench fanout`: one wide fan-out and its join, after a hundred single tasks while nothing else runs."""

from __future__ import annotations

from functools import partial
from typing import Any

from anabranch.cli.bench.bytes_used import Weights, weighed
from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.latency import latencies
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import fanout_request, single_request
from anabranch.cli.bench.submitting import Asker
from anabranch.runtime.process.settings import Settings

SINGLE_REQUESTS = 100


async def fanout(settings: Settings, options: BenchOptions, tasks: int, wait: float = 0.0) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`. Each member waits for `wait` seconds."""
    each = f" that wait {milliseconds(wait)} each" if wait else ""
    words = f"{SINGLE_REQUESTS} single tasks, then {tasks:,} in one fan-out{each}"
    scales = settings if options.weigh else None
    return await run_bench(settings, options, words, partial(_measure, tasks=tasks, wait=wait, scales=scales))


async def _measure(asking: Asker, tasks: int, wait: float, scales: Settings | None) -> Measurement:
    singles = await latencies(asking, single_request(), SINGLE_REQUESTS)
    [ended], weights = await weighed(asking, [fanout_request(tasks, wait)], scales)
    return fanout_report(tasks, ended.seconds, singles, weights)


def fanout_report(tasks: int, seconds: float, singles: Distribution, weights: Weights | None) -> Measurement:
    """The figures of `--json`, whose five names are public, and the table."""
    document: dict[str, Any] = {
        "tasks": tasks,
        "seconds": round(seconds, 4),
        "tasks_per_second": round(tasks / seconds, 1),
        "p50_ms": round(singles.median * 1000, 3),
        "p99_ms": round(singles.at(0.99) * 1000, 3),
    }
    rows = [
        ("fan-out and join", milliseconds(seconds), f"{tasks:,} members, every result stored"),
        ("members a second", f"{tasks / seconds:,.0f}", ""),
    ]
    if weights is not None:
        document["bytes"] = weights.to_document()
        rows += weights.rows()
    return Measurement(f"One fan-out of {tasks:,}", document, rows, [("one task alone", singles)])
