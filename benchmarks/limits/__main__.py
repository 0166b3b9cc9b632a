"""`python -m limits` (tests and benchmarks on the path): runs a case at each limit, on a real Kafka and Redis.

One Agency and two TaskGroups with the default settings. Each case runs together with a small request, whose
duration shows how much the case delays other runs. The table is Markdown. The exit code is 1 if a case has an
unexpected outcome.

    python -m limits --only groups
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cluster import FINAL, Cluster, User
from confluent_kafka import Producer
from servers.finder import started_servers

from limits.cases import Case, cases, compact, request, task

SECONDS = 300.0
CLIENT_BYTES = 1_040_000
"""Record size limit of the client, because its default is below the size limit of a request."""
TESTS = Path(__file__).parents[2] / "tests" / "support"
HEAD = (
    "limit",
    "input",
    "outcome",
    "seconds",
    "a small run at the same time",
    "largest service",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m limits", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="only cases whose limit has this text in its name")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anabranch-limits-")))
        kafka, redis = started_servers(stack, folder)
        environ = {"PYTHONPATH": str(TESTS), "CI": ""}
        cluster = Cluster(folder, kafka.address, redis.address, f"limits{os.getpid()}.", environ)
        stack.callback(cluster.stop)
        cluster.start_all(workers=2, agents="edge_agents")
        _row(HEAD)
        _row("---" for _ in HEAD)
        wrong = [case for case in cases() if chosen.only in case.limit and not _is_right(cluster, case)]
    return 1 if wrong else 0


def _is_right(cluster: Cluster, case: Case) -> bool:
    user = User(cluster)
    user.producer = Producer(
        {"bootstrap.servers": cluster.brokers, "linger.ms": 0, "message.max.bytes": CLIENT_BYTES}
    )
    beside = request(task("echo", 1))
    began = time.monotonic()
    user.produce(compact(case.document))
    _provoke(user, case)
    user.produce(beside)
    user.await_final(beside["request_id"], SECONDS)
    small = time.monotonic() - began
    body = _final(user, case)
    seconds = time.monotonic() - began
    user.close()
    _row((case.limit, case.sent, _outcome(body), f"{seconds:.1f}", f"{small:.1f} s", _memory(cluster)))
    return _status(body) == case.right and len(cluster.of("taskgroup")) == 2 and len(cluster.of("agency")) == 1


def _provoke(user: User, case: Case) -> None:
    """Further inputs of a case: external keys, other bodies with its request id."""
    request_id = case.document["request_id"]
    if case.outside:
        user.await_records(lambda seen: seen.kind == "run.accepted" and seen.body["request_id"] == request_id)
        with user.redis.pipeline(transaction=False) as pipeline:
            for key in case.outside:
                pipeline.set(f"session:{{{case.document['session_id']}}}:{key}", b"1", ex=600)
            pipeline.execute()
    if case.conflicts:
        user.await_final(request_id, SECONDS)
    for number in range(case.conflicts):
        user.produce(case.document | {"name": f"body {number}"})


def _final(user: User, case: Case) -> dict[str, Any]:
    """The final record of a case. With conflicts, waits until all of them are rejected."""
    if case.conflicts:
        user.await_records(lambda seen: seen.kind == "run.rejected", case.conflicts, SECONDS)
    return next(
        seen.body
        for seen in user.await_records(lambda seen: _ends(seen, case), 1, SECONDS)
        if not case.conflicts or seen.kind != "run.rejected"
    )


def _ends(seen: Any, case: Case) -> bool:
    return seen.kind in FINAL and seen.body["request_id"] == case.document["request_id"]


def _status(body: dict[str, Any]) -> str:
    return str(body.get("status", "rejected"))


def _outcome(body: dict[str, Any]) -> str:
    found = [each["code"] for each in body.get("errors", ())]
    found += [f"{each['error_type']}: {each['message']}"[:90] for each in body.get("failures", ())[:1]]
    return f"`{_status(body)}`" + (f" ({'; '.join(found)})" if found else "")


def _memory(cluster: Cluster) -> str:
    """Peak memory of the largest service so far."""
    peaks = [_peak(process.popen.pid) for process in cluster.processes if process.popen.poll() is None]
    return f"{max(peaks) // 1024} MiB"


def _peak(pid: int) -> int:
    """Peak resident memory of a process in KiB; resets the peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [peak] = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak


def _row(cells: Any) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
