"""`bench latency`: durations of requests with one task, one after another on an idle system."""

from __future__ import annotations

from functools import partial

from anabranch.cli.bench.client import BenchClient, with_members
from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import Document, single_request
from anabranch.runtime.process.settings import Settings

WARM_UP_REQUESTS = 5
"""Warm-up requests, which open connections and load code; not counted."""


async def latency(settings: Settings, options: BenchOptions, requests: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{requests:,} requests of one task, one after another"
    return await run_bench(settings, options, words, partial(_measure, requests=requests))


async def latencies(client: BenchClient, document: Document, requests: int, members: int = 1) -> Distribution:
    """Durations of sequential requests of `members` tasks, in seconds, each from its publication to its final
    record. Raises NotMeasured at the first failure."""
    ended = [with_members(await client.run(document), members) for _ in range(WARM_UP_REQUESTS + requests)]
    return Distribution.of([each.seconds for each in ended[WARM_UP_REQUESTS:]])


async def _measure(client: BenchClient, requests: int) -> Measurement:
    spread = await latencies(client, single_request(), requests)
    return Measurement(
        "One task: from the publication of the request to the final record",
        {"requests": requests, **spread.milliseconds()},
        [("requests", f"{requests:,}", f"after {WARM_UP_REQUESTS} warm-up requests")],
        [("one request", spread)],
    )
