"""`python -m variants` (tests and benchmarks on the path): compares design choices with their alternatives.

Each variant is the same installation with one thing changed, and has its own processes. The variants take turns in
each repetition; the median is reported. The broker and Redis are found as in the tests.

    python -m variants --tasks 100000 --requests 200 --repeat 3
    python -m variants --offers
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from cluster import Cluster
from servers.finder import started_servers

from variants.offers import carried

BURST, SINGLES = 20_000, 200
WORKERS = (1, 2, 4)
SLOTS = 16
WAIT = "10ms"


@dataclass(frozen=True)
class Variant:
    """A changed installation: by environment variables, or by code that runs before the command."""

    name: str
    environ: Mapping[str, str] = field(default_factory=dict)
    before: str = ""


def _chunks(limit: int) -> Variant:
    """Another maximum size of chunks than 500 members."""
    patch = "from functools import partial; from anabranch_taskgroup import service"
    return Variant(
        f"chunks of {limit:,}",
        before=f"{patch}; service.DecisionConfig = partial(service.DecisionConfig, chunk_limit={limit})",
    )


VARIANTS = (
    Variant("as it is"),
    Variant("asyncio's own loop", before="import sys; sys.modules['uvloop'] = None"),
    Variant("no compression", {"ANABRANCH_KAFKA_COMPRESSION_TYPE": "none"}),
    Variant("zstd", {"ANABRANCH_KAFKA_COMPRESSION_TYPE": "zstd"}),
    _chunks(100),
    _chunks(2_000),
)


class Changed(Cluster):
    """An installation whose commands run a variant's code first."""

    before = ""

    def command(self, *arguments: str) -> list[str]:
        start = "import sys; from anabranch.cli.main import main; sys.exit(main())"
        return [sys.executable, "-c", "\n".join([self.before, start]), *arguments]


def measured(
    variant: Variant, servers: tuple[str, str], unique: str, tasks: int, requests: int
) -> dict[str, float]:
    """Measure one fan-out and single requests on new processes of a variant."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = Changed(Path(folder), *servers, f"{unique}.", variant.environ)
        cluster.before = variant.before
        try:
            cluster.start_all(workers=1)
            fan_out = _bench(cluster, "fanout", "--tasks", str(tasks))
            latency = _bench(cluster, "latency", "--requests", str(requests))
        finally:
            cluster.stop()
    return {"members_per_second": fan_out["tasks_per_second"], "p50_ms": latency["p50_ms"]}


def _bench(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    done = cluster.run("bench", *arguments, "--json")
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}\n{cluster.logs()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _choices(servers: tuple[str, str], tasks: int, requests: int, repeat: int) -> list[str]:
    figures: dict[str, list[dict[str, float]]] = {variant.name: [] for variant in VARIANTS}
    for turn in range(repeat):
        for variant in (*VARIANTS[turn % len(VARIANTS) :], *VARIANTS[: turn % len(VARIANTS)]):
            unique = f"variants{os.getpid()}x{turn}x{VARIANTS.index(variant)}"
            figures[variant.name].append(measured(variant, servers, unique, tasks, requests))
            print(f"{variant.name}: {figures[variant.name][-1]}", file=sys.stderr, flush=True)
    rows = [
        f"| variant | members per second, of {tasks:,} | one task, p50 |",
        "|---|---|---|",
    ]
    for name, found in figures.items():
        speed, wait = (median(each[key] for each in found) for key in ("members_per_second", "p50_ms"))
        rows.append(f"| {name} | {speed:,.0f} | {wait:.1f} ms |")
    return rows


def _workers(servers: tuple[str, str], tasks: int, repeat: int) -> list[str]:
    """Measure how workers scale with agents that wait, so that processors are not the bottleneck."""
    rows = [
        f"| workers | members per second, of {tasks:,} that wait {WAIT} each, {SLOTS} at once in each worker |",
        "|---|---|",
    ]
    for workers in WORKERS:
        found = []
        for turn in range(repeat):
            with tempfile.TemporaryDirectory() as folder:
                cluster = Cluster(Path(folder), *servers, f"variants{os.getpid()}w{workers}x{turn}.")
                try:
                    cluster.start_all(workers=workers, concurrency=SLOTS)
                    found.append(
                        _bench(cluster, "fanout", "--tasks", str(tasks), "--wait", WAIT)["tasks_per_second"]
                    )
                finally:
                    cluster.stop()
        rows.append(f"| {workers} | {median(found):,.0f} |")
    return rows


def _carriers(brokers: str) -> list[str]:
    rows = [
        f"| offers by | {BURST:,} at once: records per second | one at a time: p50 | p99 |",
        "|---|---|---|---|",
    ]
    for each in carried(brokers, BURST, SINGLES):
        rows.append(f"| {each.way} | {each.per_second:,.0f} | {each.p50_ms:.2f} ms | {each.p99_ms:.2f} ms |")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m variants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument(
        "--waiting", type=int, default=20_000, help="number of waiting members for the scaling of workers"
    )
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--offers", action="store_true", help="only compare consumer groups for offers")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anabranch-variants-")))
        kafka, redis = started_servers(stack, folder)
        rows = _carriers(kafka.address)
        if not chosen.offers:
            servers = (kafka.address, redis.address)
            rows += ["", *_workers(servers, chosen.waiting, chosen.repeat)]
            rows += ["", *_choices(servers, chosen.tasks, chosen.requests, chosen.repeat)]
        print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
