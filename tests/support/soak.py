"""`python -m soak` (with tests/support on the path): continuous requests under faults by seed, and a report.

Runs its own Kafka and Redis and two or three processes of each service. The report shows lost, early and double
joins, and the growth of services. The exit code is 1 if any of them is not as required.

    python -m soak --minutes 15 --seed 7 --every 20 --json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chaos import WORKER, Injector, chosen_mix, chosen_seed, draw
from cluster import FINAL, Cluster, Process, Seen, User
from cutting_proxy import CuttingProxy
from requests_made import fan_out, request
from servers.finder import private_kafka, private_redis

TESTS = Path(__file__).parent
QUIET_SECONDS = 60.0
"""No fault for this long before a size is measured, so that its memory is freed by then."""
LAST_SECONDS = 300.0
"""Time limit of the last requests after the end of faults."""
GROWTH = 1.10
"""Allowed growth of the memory that a service holds, from a third of the time to the end."""
TRIM_SECONDS = 5.0
"""A service returns unused memory this long before its size is measured: the peak of a replay is no growth."""
GROWTH_SECONDS = 900.0
"""In a shorter soak, sizes are reported but not judged, because caches still fill."""
REDIS = {"appendonly": "yes", "appendfsync": "everysec"}


@dataclass
class Asked:
    """A request, and all records about it."""

    count: int
    at: float
    finals: list[tuple[float, Seen]] = field(default_factory=list)
    published: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))


@dataclass
class Traffic:
    """Sends requests at a steady pace and collects their records."""

    user: User
    dice: random.Random
    pause: float
    members: tuple[int, int] = (20, 200)
    """Bounds of the size of a fan-out."""
    asked: dict[str, Asked] = field(default_factory=dict)
    due: float = 0.0

    def step(self, *, ask: bool) -> None:
        now = time.monotonic()
        if ask and now >= self.due:
            self.due = now + self.pause
            self._ask(now)
        self.user.producer.poll(0)
        self.user.read()
        for seen in self.user.seen:
            self._receive(seen)
        self.user.seen.clear()

    def _ask(self, now: float) -> None:
        """A fan-out whose list a second one expands, so an early join makes the second one too short."""
        count = self.dice.randint(*self.members)
        pad = "x" * (1_500 if self.dice.random() < 0.1 else 10)
        seconds = self.dice.choice([0.0, 0.01, 0.05])
        first = fan_out(count) | {
            "agent": "traced",
            "inputs": {"seconds": seconds, "value": {"n": "{n}", "p": pad}},
        }
        second = {
            "name": "again",
            "agent": "echo",
            "inputs": "{x.n}",
            "result_keys": ["again"],
            "dependencies": ["out"],
            "expansion_config": {"type": "array", "array_mapping": {"x": "out"}},
        }
        document = request(first, second)
        self.asked[document["request_id"]] = Asked(count, now)
        self.user.producer.produce(self.user.cluster.prefix + "requests", json.dumps(document).encode())

    def _receive(self, seen: Seen) -> None:
        if seen.topic != "results":
            return
        body = seen.body
        asked = self.asked.get(body["request_id"])
        if asked is not None and seen.kind in FINAL:
            asked.finals.append((time.monotonic(), seen))
        elif asked is not None and seen.kind == "result.published":
            asked.published[body["result_key"]].add(json.dumps(body["value"]).encode())

    @property
    def open(self) -> int:
        return sum(not asked.finals for asked in self.asked.values())


NOTHING_WRONG: dict[str, list[str]] = {"lost": [], "early": [], "double": [], "not completed": []}


def verdict(asked: Mapping[str, Asked]) -> dict[str, list[str]]:
    """Request ids by kind of problem."""
    wrong: dict[str, list[str]] = {what: [] for what in NOTHING_WRONG}
    for request_id, each in asked.items():
        if not each.finals:
            wrong["lost"].append(request_id)
            continue
        final = each.finals[0][1].body
        if final["status"] != "completed":
            wrong["not completed"].append(f"{request_id}: {final['status']} {final.get('failures')}")
        elif final["results"]["again"] != list(range(each.count)):
            wrong["early"].append(request_id)
        bodies = {(seen.headers["ce_id"], seen.value) for _, seen in each.finals}
        if len(bodies) > 1 or any(len(values) > 1 for values in each.published.values()):
            wrong["double"].append(request_id)
    return wrong


def resident(process: Process) -> float:
    """Resident memory of a process in MiB."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@contextmanager
def installation(folder: Path, seed: int) -> Iterator[Injector]:
    """Separate servers and services; the first process of each service is never killed."""
    broker = private_kafka(folder / "kafka" / "data")
    redis = private_redis(folder / "redis" / "data", REDIS)
    places = [str(TESTS), str(TESTS / "trimmed_memory"), os.environ.get("PYTHONPATH")]
    environ = {
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "PYTHONMALLOC": "malloc",
        "ANABRANCH_TEST_TRACE": str(folder / "trace.txt"),
        "CI": "",
    }
    (folder / "trace.txt").touch()
    try:
        redis.start()
        broker.start()
        address = urlsplit(redis.address)
        proxy = CuttingProxy((str(address.hostname), int(address.port or 6379)), seed)
        cluster = Cluster(folder, broker.address, f"redis://127.0.0.1:{proxy.port}/0", "soak.", environ)
        cluster.start_all(workers=1, agents="system_agents", concurrency=8)
        spared = list(cluster.processes)
        for service, options in (
            ("agency", ()),
            ("taskgroup", WORKER),
            ("taskgroup", WORKER),
            ("eventmanager", ()),
        ):
            cluster.start(service, *options).await_ready()
        yield Injector(cluster, random.Random(seed), redis, broker, proxy, spared)
        cluster.stop()
    finally:
        broker.stop()
        redis.stop()


def storm(
    injector: Injector,
    seconds: float,
    every: float,
    pause: float,
    mix: Mapping[str, int],
    marks: Mapping[str, float] | None = None,
) -> tuple[Traffic, dict[str, dict[str, float]]]:
    """Requests for `seconds` with a fault about every `every`, until all have ended or LAST_SECONDS have passed.

    `marks` name moments (seconds from the start) at which sizes of the spared processes are measured, as they are
    and without what they do not use; no fault begins shortly before one.
    """
    user = User(injector.cluster, topics=("results",))
    traffic = Traffic(user, random.Random(injector.dice.random()), pause)
    began = time.monotonic()
    open_marks = {name: began + at for name, at in (marks or {}).items()}
    sizes: dict[str, dict[str, float]] = {}
    untrimmed = dict(open_marks)
    fault_due = began + every
    while (now := time.monotonic()) < began + seconds or open_marks:
        traffic.step(ask=True)
        injector.step()
        near = any(at - now < min(QUIET_SECONDS, seconds / 10) for at in open_marks.values())
        if now >= fault_due and not near:
            fault_due = now + injector.dice.uniform(0.5, 1.5) * every
            injector.inject(draw(injector.dice, mix))
        for name in [name for name, at in untrimmed.items() if now >= at - TRIM_SECONDS]:
            sizes[f"{name}, untrimmed"] = {process.service: resident(process) for process in injector.spared}
            del untrimmed[name]
            for process in injector.spared:
                process.popen.send_signal(signal.SIGUSR1)
        for name in [name for name, at in open_marks.items() if now >= at]:
            sizes[name] = {process.service: resident(process) for process in injector.spared}
            del open_marks[name]
    injector.settle(LAST_SECONDS)
    deadline = time.monotonic() + LAST_SECONDS
    while traffic.open and time.monotonic() < deadline:
        traffic.step(ask=False)
        injector.step()
    user.close()
    return traffic, sizes


def soak(injector: Injector, seconds: float, every: float, pause: float) -> dict[str, Any]:
    """Run all kinds of faults, and return the report."""
    began = time.monotonic()
    marks = {"third": seconds / 3, "end": seconds}
    traffic, sizes = storm(injector, seconds, every, pause, chosen_mix(), marks)
    return report(injector, traffic, sizes, time.monotonic() - began)


def calls_of(cluster: Cluster) -> Counter[str]:
    """The number of calls of each member of each run, from the trace that agents write."""
    lines = (cluster.folder / "trace.txt").read_text().splitlines()
    return Counter(line.rpartition(" ")[0] for line in lines)


def report(
    injector: Injector, traffic: Traffic, sizes: Mapping[str, Mapping[str, float]], took: float
) -> dict[str, Any]:
    wrong = verdict(traffic.asked)
    waits = sorted(each.finals[0][0] - each.at for each in traffic.asked.values() if each.finals)
    calls = calls_of(injector.cluster)
    grown = {name: sizes["end"][name] / size for name, size in sizes["third"].items()}
    return {
        "seconds": round(took),
        "requests": len(traffic.asked),
        "members": 2 * sum(each.count for each in traffic.asked.values()),
        "wrong": {what: len(found) for what, found in wrong.items()},
        "examples": {what: found[:3] for what, found in wrong.items() if found},
        "finals_told_again": sum(max(0, len(each.finals) - 1) for each in traffic.asked.values()),
        "calls": sum(calls.values()),
        "calls_repeated": sum(times - 1 for times in calls.values()),
        "p50_seconds": round(waits[len(waits) // 2], 2),
        "p99_seconds": round(waits[len(waits) * 99 // 100], 2),
        "longest_seconds": round(waits[-1], 2),
        "faults": dict(sorted(injector.done.items())),
        "connections_cut": injector.proxy.cuts if injector.proxy else 0,
        "ended_by_themselves": injector.ended,
        "resident_mib": {name: {at: round(found[name], 1) for at, found in sizes.items()} for name in grown},
        "growth": {name: round(share, 3) for name, share in grown.items()},
        "good": not any(wrong.values()) and (took < GROWTH_SECONDS or max(grown.values()) <= GROWTH),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=chosen_seed(1))
    parser.add_argument("--every", type=float, default=20.0, help="mean seconds between faults")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between requests")
    parser.add_argument("--keep", action="store_true", help="keep the logs even if nothing failed")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="anabranch-soak-"))
    with installation(folder, arguments.seed) as injector:
        found = soak(injector, arguments.minutes * 60, arguments.every, arguments.pause)
    print(json.dumps({"seed": arguments.seed, **found}, indent=2))
    if not found["good"] or arguments.keep:
        print(f"logs: {folder}", file=sys.stderr)
        return int(not found["good"])
    _remove(folder)
    return 0


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
