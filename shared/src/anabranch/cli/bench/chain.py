"""`bench chain`: a chain of fan-outs, each over the joined list of the previous one."""

from __future__ import annotations

from functools import partial
from typing import Any

from anabranch.cli.bench.bytes_used import ByteUsage, run_measuring_bytes
from anabranch.cli.bench.client import BenchClient
from anabranch.cli.bench.command import BenchOptions, run_bench
from anabranch.cli.bench.distribution import Distribution, milliseconds
from anabranch.cli.bench.report import Measurement
from anabranch.cli.bench.shapes import chain_request
from anabranch.runtime.process.settings import Settings

STAGES = 6
WIDTH = 10
WARM_UP_CHAINS = 3
"""Warm-up chains, which open connections and load code; not counted."""


async def chain(settings: Settings, options: BenchOptions, chains: int) -> int:
    """Measure and print; returns the exit code. Raises as `run_bench`."""
    words = f"{chains:,} chains of {STAGES} fan-outs of {WIDTH}, one after another"
    servers = settings if options.measure_bytes else None
    return await run_bench(settings, options, words, partial(_measure, chains=chains, servers=servers))


async def _measure(client: BenchClient, chains: int, servers: Settings | None) -> Measurement:
    request = chain_request(STAGES, WIDTH)
    for _ in range(WARM_UP_CHAINS):
        await client.run(request)
    ended, usage = await run_measuring_bytes(client, [request] * chains, servers)
    return chain_report(Distribution.of([each.seconds for each in ended]), usage)


def chain_report(spread: Distribution, usage: ByteUsage | None) -> Measurement:
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
        ("one fan-out of the chain", milliseconds(spread.median / STAGES), f"median chain divided by {STAGES}"),
        ("members per second", f"{members / spread.median:,.0f}", ""),
    ]
    if usage is not None:
        document["bytes"] = usage.to_document()
        rows += usage.rows()
    return Measurement(f"A chain of {STAGES} fan-outs of {WIDTH}", document, rows, [("one chain", spread)])
