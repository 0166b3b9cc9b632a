"""`python -m gateway` (tests and benchmarks on the path): measures a gateway on a real Kafka and Redis.

Servers, services, the gateway and the client share this machine. The broker and Redis are found as in the tests.

    python -m gateway --rate 500 --seconds 10 --listeners 1000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from cluster import Cluster, await_true
from servers.finder import started_servers

from gateway.measuring import document, fanned, submits

FILES = 8_192
_URL = re.compile(rb"Dashboard and API: (\S+)/")


def _started(cluster: Cluster) -> tuple[str, int]:
    """Start a gateway; returns its URL and process id."""
    gateway = cluster.start("gateway", "--port", "0")
    gateway.await_ready()
    await_true(lambda: _URL.search(gateway.log.read_bytes()) is not None, 30)
    found = _URL.search(gateway.log.read_bytes())
    assert found is not None
    return found[1].decode(), gateway.popen.pid


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, nargs="+", default=[100, 250, 500, 1000], help="submits per second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--listeners", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--without-services", action="store_true", help="submit without any other service")
    chosen = parser.parse_args(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anabranch-gateway-")))
        kafka, redis = started_servers(stack, folder)
        cluster = Cluster(folder, kafka.address, redis.address, f"gateway{os.getpid()}.")
        stack.callback(cluster.stop)
        if not chosen.without_services:
            cluster.start_all(workers=1)
        url, pid = _started(cluster)
        if not chosen.without_services:
            _say(document(asyncio.run(fanned(url, chosen.listeners, chosen.events, pid))))
        asyncio.run(submits(url, 50, 2, pid))  # warm-up
        for rate in chosen.rate:
            _say(document(asyncio.run(submits(url, rate, chosen.seconds, pid))))
    return 0


def _say(figure: object) -> None:
    print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    sys.exit(main())
