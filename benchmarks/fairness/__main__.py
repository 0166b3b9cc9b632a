"""`python -m fairness` (tests and benchmarks on the path): single tasks behind much other work, on real servers.

An Agency, three TaskGroups of 8 slots (two in the default pool, one in the pool `gpu`) and an EventManager, on a
Kafka and a Redis that are found as in the tests. Each case submits single tasks, one after another, while a wide
run has all slots: its members take 50 ms, so a chunk, which is about a second of work, has 20 or more.

    python -m fairness --members 1000000 --runs 30
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import Cluster, User
from servers.finder import started_servers

MEMBER_SECONDS = 0.05
WARM_UP_SECONDS = 8.0
"""The wide run has filled all slots, and its chunks are measured."""
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Case:
    """A single task behind a wide run.

    Attributes:
        single, wide: fields of both requests; None: there is no wide run.
        members: of the wide run, as a share of those of the measurement.
    """

    name: str
    single: dict[str, Any]
    wide: dict[str, Any] | None
    members: float = 1.0


CASES = (
    Case("idle", {}, None),
    Case("another key, behind members of one key", {"fairness_key": "b"}, {"fairness_key": "a"}),
    Case("the same key, another run", {}, {}),
    Case("critical, behind members of low", {"priority": "critical"}, {"priority": "low"}, 0.1),
    Case("low, behind members of critical", {"priority": "low"}, {"priority": "critical"}, 0.1),
    Case("another pool", {"pool": "gpu"}, {}, 0.1),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fairness", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=MEMBER_SECONDS, help="of each member of a wide run")
    parser.add_argument("--cases", default="", help="only those with this text in their names, beside idle")
    parser.add_argument("--json", action="store_true", help="print one JSON document for each case")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anabranch-fairness-")))
        kafka, redis = started_servers(stack, folder)
        cluster = Cluster(folder, kafka.address, redis.address, f"fair{os.getpid()}.", {"CI": ""})
        stack.callback(cluster.stop)
        cluster.start_all(workers=2, concurrency=8)
        cluster.start("taskgroup", "--concurrency", "8", "--pool", "gpu").await_ready()
        user = User(cluster, ("results",))
        if not chosen.json:
            print("| single tasks | median | worst | load |\n|---|---:|---:|---:|", flush=True)
        for case in CASES:
            if case.wide is not None and chosen.cases not in case.name:
                continue
            seconds = _measure(user, case, chosen.members, chosen.runs, chosen.seconds)
            _show(case, seconds, as_json=chosen.json)
    return 0


def _measure(user: User, case: Case, members: int, runs: int, member_seconds: float) -> list[float]:
    """Seconds from the submission of each single task to its final record."""
    with _wide_run(user, case, int(members * case.members), member_seconds):
        found = []
        for _ in range(runs):
            found.append(_seconds_of(user, case.single))
            time.sleep(PAUSE_SECONDS)
    return found


def _seconds_of(user: User, fields: dict[str, Any]) -> float:
    task = {"name": "t", "agent": "sleep", "inputs": {"seconds": 0}}
    request = {"task_groups": [{"name": "g", "tasks": [task]}], **fields}
    body = user.run(request, 600.0)
    user.seen.clear()
    assert body["status"] == "completed", body
    return float(body["duration_seconds"])


@contextmanager
def _wide_run(user: User, case: Case, members: int, seconds: float) -> Iterator[None]:
    if case.wide is None:
        yield
        return
    expansion = {"type": "custom", "transform_rules": {"sequence": {"n": {"start": 1, "end": members}}}}
    task = {"name": "wide", "agent": "sleep", "inputs": {"seconds": seconds}, "expansion_config": expansion}
    request = {"request_id": str(uuid.uuid4()), "task_groups": [{"name": "g", "tasks": [task]}], **case.wide}
    user.produce(request)
    time.sleep(WARM_UP_SECONDS)
    try:
        yield
    finally:
        user.produce({"type": "cancel", "request_id": request["request_id"]})
        user.await_final(request["request_id"], 120.0)


def _show(case: Case, seconds: Sequence[float], *, as_json: bool) -> None:
    median, worst, load = statistics.median(seconds), max(seconds), os.getloadavg()[0]
    if as_json:
        found = {"case": case.name, "runs": len(seconds), "median_ms": median * 1_000, "worst_ms": worst * 1_000}
        found["load"] = load
        print(json.dumps(found), flush=True)
    else:
        print(f"| {case.name} | {median * 1_000:,.0f} ms | {worst * 1_000:,.0f} ms | {load:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
