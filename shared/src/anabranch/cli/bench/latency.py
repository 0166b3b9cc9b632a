"""`bench latency`: requests of one task, one after another, while nothing else runs."""

from __future__ import annotations

from functools import partial

from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import Document, single_request
from anabranch.cli.bench.submitting import Asker
from anabranch.runtime.process.settings import Settings

FIRST_REQUESTS = 5
"""Not counted: they open connections and load code."""


async def latency(settings: Settings, options: BenchOptions, requests: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{requests:,} requests of one task, one after another"
    return await run_bench(settings, options, words, partial(_measure, requests=requests))


async def latencies(asking: Asker, document: Document, requests: int) -> Distribution:
    """Seconds from publishing a request to its final record, of requests one after another."""
    ended = [await asking.ask(document) for _ in range(FIRST_REQUESTS + requests)]
    return Distribution.of([each.seconds for each in ended[FIRST_REQUESTS:]])


async def _measure(asking: Asker, requests: int) -> Measurement:
    spread = await latencies(asking, single_request(), requests)
    return Measurement(
        "One task: from its request's publication to its final record",
        {"requests": requests, **spread.milliseconds()},
        [("requests", f"{requests:,}", f"and {FIRST_REQUESTS} before them that do not count")],
        [("one request", spread)],
    )
