"""`bench fairness`: durations of small runs on an idle system, and while a very wide run is in progress."""

from __future__ import annotations

import asyncio
from functools import partial

from anabranch.cli.bench.client import BenchClient, with_members
from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.latency import latencies
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import fanout_request, three_tasks_request
from anabranch.runtime.process.settings import Settings

SMALL_TASKS = 3
"""Tasks of a small run, as in `three_tasks_request`."""


async def fairness(settings: Settings, options: BenchOptions, members: int, runs: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{runs:,} runs of three tasks on an idle system, then up to {runs:,} during a fan-out of {members:,}"
    return await run_bench(settings, options, words, partial(_measure, members=members, runs=runs))


async def _measure(client: BenchClient, members: int, runs: int) -> Measurement:
    small = three_tasks_request()
    idle = await latencies(client, small, runs, SMALL_TASKS)
    wide = asyncio.create_task(client.run(fanout_request(members)))
    behind: list[float] = []
    try:
        # At least one small run, even if the wide run ends before it.
        while len(behind) < runs and (not behind or not wide.done()):
            behind.append(with_members(await client.run(small), SMALL_TASKS).seconds)
        took = with_members(await wide, members).seconds
    finally:
        wide.cancel()
    return fairness_report(members, took, idle, Distribution.of(behind))


def fairness_report(members: int, seconds: float, idle: Distribution, behind: Distribution) -> Measurement:
    """The figures and the table; `seconds` is the duration of the wide run."""
    document = {
        "members": members,
        "seconds": round(seconds, 4),
        "runs": len(behind.values),
        "idle_p50_ms": round(idle.median * 1000, 3),
        **behind.milliseconds(),
    }
    rows = [
        ("wide fan-out", milliseconds(seconds), f"{members:,} members"),
        ("small runs during it", f"{len(behind.values):,}", "three tasks each, one after another"),
        ("slowdown", f"{behind.median / idle.median:.1f} times", "ratio of the medians"),
    ]
    return Measurement("Small runs during a wide one", document, rows, [("idle", idle), ("during", behind)])
