"""`bench runs`: runs of three groups of three tasks, many at once."""

from __future__ import annotations

import asyncio
from functools import partial

from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import Document, three_by_three_request
from anabranch.cli.bench.submitting import Asker, Ended
from anabranch.runtime.process.settings import Settings

TASKS = 9
FIRST_RUNS = 5
"""Not counted: they open connections and load code."""


async def runs(settings: Settings, options: BenchOptions, count: int, at_once: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{count:,} runs of three groups of three tasks, {at_once:,} at once"
    return await run_bench(settings, options, words, partial(_measure, count=count, at_once=at_once))


async def ask_at_once(asking: Asker, document: Document, count: int, at_once: int) -> list[Ended]:
    """Run a request `count` times, at most `at_once` at a time. Raises NotMeasured at the first that fails."""
    places = asyncio.Semaphore(at_once)

    async def one() -> Ended:
        async with places:
            return await asking.ask(document)

    asked = [asyncio.ensure_future(one()) for _ in range(count)]
    try:
        return list(await asyncio.gather(*asked))
    finally:
        for each in asked:
            each.cancel()


async def _measure(asking: Asker, count: int, at_once: int) -> Measurement:
    request = three_by_three_request()
    for _ in range(FIRST_RUNS):
        await asking.ask(request)
    began = asking.clock.monotonic()
    ended = await ask_at_once(asking, request, count, at_once)
    seconds = asking.clock.monotonic() - began
    return runs_report(at_once, seconds, Distribution.of([each.seconds for each in ended]))


def runs_report(at_once: int, seconds: float, spread: Distribution) -> Measurement:
    """The figures and the table; `spread` has the seconds of each run."""
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
        ("all runs", milliseconds(seconds), f"{count:,} of them, {at_once:,} at once"),
        ("runs a second", f"{count / seconds:,.1f}", "three groups of three tasks each"),
        ("tasks a second", f"{count * TASKS / seconds:,.0f}", ""),
    ]
    return Measurement("Many runs at once", document, rows, [("one run", spread)])
