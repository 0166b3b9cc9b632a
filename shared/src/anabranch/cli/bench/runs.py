"""`bench runs`: many concurrent runs, each with three groups of three tasks."""

from __future__ import annotations

import asyncio
from functools import partial

from anabranch.cli.bench.client import BenchClient, MeasuredRun
from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import Document, three_by_three_request
from anabranch.runtime.process.settings import Settings

TASKS = 9
WARM_UP_RUNS = 5
"""Warm-up runs, which open connections and load code; not counted."""


async def runs(settings: Settings, options: BenchOptions, count: int, at_once: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{count:,} runs of three groups of three tasks, {at_once:,} at once"
    return await run_bench(settings, options, words, partial(_measure, count=count, at_once=at_once))


async def run_concurrently(client: BenchClient, document: Document, count: int, at_once: int) -> list[MeasuredRun]:
    """Run a request `count` times, at most `at_once` concurrently. Raises NotMeasured at the first failure."""
    places = asyncio.Semaphore(at_once)

    async def one() -> MeasuredRun:
        async with places:
            return await client.run(document)

    asked = [asyncio.ensure_future(one()) for _ in range(count)]
    try:
        return list(await asyncio.gather(*asked))
    finally:
        for each in asked:
            each.cancel()


async def _measure(client: BenchClient, count: int, at_once: int) -> Measurement:
    request = three_by_three_request()
    for _ in range(WARM_UP_RUNS):
        await client.run(request)
    began = client.clock.monotonic()
    ended = await run_concurrently(client, request, count, at_once)
    seconds = client.clock.monotonic() - began
    return runs_report(at_once, seconds, Distribution.of([each.seconds for each in ended]))


def runs_report(at_once: int, seconds: float, spread: Distribution) -> Measurement:
    """The figures and the table; `spread` has the duration of each run in seconds."""
    count = len(spread.values)
    document = {
        "runs": count,
        "at_once": at_once,
        "seconds": round(seconds, 4),
        "runs_per_second": round(count / seconds, 1),
        "tasks_per_second": round(count * TASKS / seconds, 1),
        **spread.milliseconds(),
    }
    rows = [
        ("all runs", milliseconds(seconds), f"{count:,} runs, {at_once:,} at a time"),
        ("runs per second", f"{count / seconds:,.1f}", "three groups of three tasks each"),
        ("tasks per second", f"{count * TASKS / seconds:,.0f}", ""),
    ]
    return Measurement("Many concurrent runs", document, rows, [("one run", spread)])
