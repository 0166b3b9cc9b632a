"""`bench fairness`: runs of three tasks behind a very wide one, beside the same runs while nothing else runs."""

from __future__ import annotations

import asyncio
from functools import partial

from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.latency import latencies
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import fanout_request, three_tasks_request
from anabranch.cli.bench.submitting import Asker
from anabranch.runtime.process.settings import Settings


async def fairness(settings: Settings, options: BenchOptions, members: int, runs: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{runs:,} runs of three tasks, then up to {runs:,} behind a fan-out of {members:,}"
    return await run_bench(settings, options, words, partial(_measure, members=members, runs=runs))


async def _measure(asking: Asker, members: int, runs: int) -> Measurement:
    small = three_tasks_request()
    idle = await latencies(asking, small, runs)
    wide = asyncio.create_task(asking.ask(fanout_request(members)))
    behind: list[float] = []
    try:
        while len(behind) < runs and (not behind or not wide.done()):
            behind.append((await asking.ask(small)).seconds)
        took = (await wide).seconds
    finally:
        wide.cancel()
    return fairness_report(members, took, idle, Distribution.of(behind))


def fairness_report(members: int, seconds: float, idle: Distribution, behind: Distribution) -> Measurement:
    """The figures and the table; `seconds` are those of the wide run."""
    document = {
        "members": members,
        "seconds": round(seconds, 4),
        "runs": len(behind.values),
        "idle_p50_ms": round(idle.median * 1000, 3),
        **behind.milliseconds(),
    }
    rows = [
        ("the fan-out", milliseconds(seconds), f"{members:,} members"),
        ("runs behind it", f"{len(behind.values):,}", "of three tasks each, one after another"),
        ("how much longer", f"{behind.median / idle.median:.1f} times", "median against median"),
    ]
    return Measurement("Small runs behind a wide one", document, rows, [("idle", idle), ("behind", behind)])
