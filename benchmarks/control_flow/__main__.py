"""`python -m control_flow` (tests and benchmarks on the path): long loops, and many open waits, on real servers.

An Agency, one TaskGroup and an EventManager with the default settings, on a Kafka and a Redis that are found as in
the tests.

- `loop`: one run whose loop has 100,000 iterations that do nothing. The memory of the services and the size of the
  run's snapshots show whether its state is bounded.
- `waits`: 10,000 members wait in 100 runs. Then 1,000 records a second end one wait each.

    python -m control_flow loop --iterations 100000
    python -m control_flow waits --waits 10000 --rate 1000
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from cluster import Cluster
from servers.finder import started_servers

from control_flow.figures import loop_table, waits_table
from control_flow.loops import BODIES, run_loop
from control_flow.waits import BY, Waiting


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m control_flow", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON documents")
    kinds = parser.add_subparsers(dest="kind", required=True)
    loop = kinds.add_parser("loop", help="one run with a long loop")
    loop.add_argument("--iterations", type=int, default=100_000)
    loop.add_argument("--body", choices=[*BODIES, "both"], default="both")
    waits = kinds.add_parser("waits", help="many open waits that are ended at a steady rate")
    waits.add_argument("--waits", type=int, default=10_000)
    waits.add_argument("--each", type=int, default=100, help="waits of one run")
    waits.add_argument("--rate", type=float, default=1_000.0, help="records a second")
    waits.add_argument("--by", choices=list(BY), default="signal")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anabranch-flow-")))
        kafka, redis = started_servers(stack, folder)
        cluster = Cluster(folder, kafka.address, redis.address, f"flow{os.getpid()}.", {"CI": ""})
        stack.callback(cluster.stop)
        cluster.start_all(workers=1)
        if chosen.kind == "loop":
            bodies = list(BODIES) if chosen.body == "both" else [chosen.body]
            runs = [run_loop(cluster, body, chosen.iterations) for body in bodies]
            shown = [run.to_document() for run in runs]
            text = loop_table(runs)
        else:
            found = Waiting(cluster, chosen.by).measure(chosen.waits, chosen.each, chosen.rate)
            shown, text = [found.to_document()], waits_table(found)
    print("\n".join(map(json.dumps, shown)) if chosen.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
