"""`python -m takeover` (tests and benchmarks on the path): takeovers of a partition with idle open runs.

The topics have one partition each, on a real Kafka and Redis, found as in the tests. Runs are opened, and wait for
a person. Then other runs are completed: the traffic of a day. New owners take over three times:

- without snapshots: they read the whole log;
- once all open runs have a snapshot;
- after further traffic, below the 64 MB after which owners repeat the snapshots: the most that a takeover reads.

Owners snapshot a run that was idle for some seconds here, instead of ten minutes, so that the day can be short. At
the end one of the open runs gets what it waits for, and completes.

    python -m takeover --open 10000 --ended 10000 --since 8000
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from cluster import Cluster
from servers.finder import started_servers

from takeover.figures import Takeover, table
from takeover.installation import Installation

OFF, SOON = "0", "5s"


def takeovers(parts: Installation, open_runs: int, ended: int, since: int) -> Iterator[Takeover]:
    """Measure the takeovers one after another."""
    parts.start_owners(OFF)
    _say(f"opening {open_runs:,} runs")
    parts.open(open_runs)
    _say(f"completing {ended:,} other runs")
    parts.run_others(ended)
    parts.await_committed()
    before = parts.ends()
    yield parts.take_over("without snapshots", SOON)
    _say("waiting for the snapshots")
    parts.await_committed(before)
    yield parts.take_over("all runs have a snapshot", SOON)
    if since:
        _say(f"completing {since:,} other runs")
        parts.run_others(since)
        parts.await_committed()
        yield parts.take_over(f"{since:,} other runs later", SOON)
    parts.finish_one()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m takeover", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--open", type=int, default=10_000, help="number of open runs")
    parser.add_argument("--ended", type=int, default=10_000, help="number of other runs before the snapshots")
    parser.add_argument("--since", type=int, default=8_000, help="number of other runs after the snapshots")
    parser.add_argument("--json", action="store_true", help="print one JSON document for each takeover")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anabranch-takeover-")))
        kafka, redis = started_servers(stack, folder)
        environ = {"ANABRANCH_PARTITIONS": "1", "CI": ""}
        cluster = Cluster(folder, kafka.address, redis.address, f"takeover{os.getpid()}.", environ)
        stack.callback(cluster.stop)
        created = cluster.run("topics", "create")
        if created.returncode:
            raise SystemExit(created.stderr)
        found = []
        for each in takeovers(Installation(cluster), chosen.open, chosen.ended, chosen.since):
            found.append(each)
            _say(json.dumps(each.to_document()))
    print("\n".join(json.dumps(each.to_document()) for each in found) if chosen.json else table(found))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
