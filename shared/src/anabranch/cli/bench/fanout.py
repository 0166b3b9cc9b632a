"""`bench fanout`: a hundred single tasks on an idle system, then one wide fan-out and its join."""

from __future__ import annotations

from functools import partial
from typing import Any

from anabranch.cli.bench.bytes_used import ByteUsage, run_measuring_bytes
from anabranch.cli.bench.client import BenchClient, with_members
from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.latency import latencies
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import fanout_request, single_request
from anabranch.runtime.process.settings import Settings

SINGLE_REQUESTS = 100


async def fanout(settings: Settings, options: BenchOptions, tasks: int, wait: float = 0.0) -> int:
    """Measure and print; returns the exit code. Each member waits for `wait` seconds. Raises as `run_bench`."""
    each = f" of {milliseconds(wait)} each" if wait else ""
    words = f"{SINGLE_REQUESTS} single tasks, then one fan-out of {tasks:,} members{each}"
    servers = settings if options.measure_bytes else None
    return await run_bench(settings, options, words, partial(_measure, tasks=tasks, wait=wait, servers=servers))


async def _measure(client: BenchClient, tasks: int, wait: float, servers: Settings | None) -> Measurement:
    singles = await latencies(client, single_request(), SINGLE_REQUESTS)
    [ended], usage = await run_measuring_bytes(client, [fanout_request(tasks, wait)], servers)
    return fanout_report(tasks, with_members(ended, tasks).seconds, singles, usage)


def fanout_report(tasks: int, seconds: float, singles: Distribution, usage: ByteUsage | None) -> Measurement:
    """The figures and the table. The names of the first five figures are public."""
    document: dict[str, Any] = {
        "tasks": tasks,
        "seconds": round(seconds, 4),
        "tasks_per_second": round(tasks / seconds, 1),
        "p50_ms": round(singles.median * 1000, 3),
        "p99_ms": round(singles.at(0.99) * 1000, 3),
    }
    rows = [
        ("fan-out and join", milliseconds(seconds), f"{tasks:,} members, every result stored"),
        ("members per second", f"{tasks / seconds:,.0f}", ""),
    ]
    if usage is not None:
        document["bytes"] = usage.to_document()
        rows += usage.rows()
    return Measurement(f"One fan-out of {tasks:,}", document, rows, [("single task", singles)])
