"""`bench chain`: fan-outs one after another, each over the list that the one before has joined."""

from __future__ import annotations

from functools import partial
from typing import Any

from anabranch.cli.bench.bytes_used import Weights, weighed
from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import chain_request
from anabranch.cli.bench.submitting import Asker
from anabranch.runtime.process.settings import Settings

STAGES = 6
WIDTH = 10
FIRST_CHAINS = 3
"""Not counted: they open connections and load code."""


async def chain(settings: Settings, options: BenchOptions, chains: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{chains:,} chains of {STAGES} fan-outs of {WIDTH}, one after another"
    scales = settings if options.weigh else None
    return await run_bench(settings, options, words, partial(_measure, chains=chains, scales=scales))


async def _measure(asking: Asker, chains: int, scales: Settings | None) -> Measurement:
    request = chain_request(STAGES, WIDTH)
    for _ in range(FIRST_CHAINS):
        await asking.ask(request)
    ended, weights = await weighed(asking, [request] * chains, scales)
    return chain_report(Distribution.of([each.seconds for each in ended]), weights)


def chain_report(spread: Distribution, weights: Weights | None) -> Measurement:
    """The figures and the table; `spread` has the seconds of each chain."""
    members = STAGES * WIDTH
    document: dict[str, Any] = {
        "chains": len(spread.values),
        "fanouts": STAGES,
        "width": WIDTH,
        "members": members,
        **spread.milliseconds(),
        "stage_p50_ms": round(spread.median / STAGES * 1000, 3),
    }
    rows = [
        ("one fan-out of the chain", milliseconds(spread.median / STAGES), f"the median chain by {STAGES}"),
        ("members a second", f"{members / spread.median:,.0f}", ""),
    ]
    if weights is not None:
        document["bytes"] = weights.to_document()
        rows += weights.rows()
    return Measurement(f"A chain of {STAGES} fan-outs of {WIDTH}", document, rows, [("one chain", spread)])
