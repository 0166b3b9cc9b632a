"""A Kafka and a Valkey on the node's address: the test suite's own, as one background process.

`python -m one_node.datastores FOLDER ADDRESS` runs both in the foreground, in the network namespace of its caller.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from one_node.commands import run, succeeds
from one_node.layout import REPOSITORY, Layout
from one_node.processes import Process

SUPPORT = REPOSITORY / "tests" / "support"


def fetch_datastores(cluster: Layout) -> None:
    """Download Kafka's jars, unless they are there: the network namespace has no route to do it later."""
    run(sys.executable, "-c", "import servers.kafka_node as k; k.broker_jars()", environment=_environment(cluster))


def datastores(cluster: Layout) -> Process:
    """The process of both servers."""
    module = [sys.executable, "-m", "one_node.datastores", str(cluster.folder / "data"), cluster.node]
    return Process(cluster, "datastores", module, _environment(cluster))


def _environment(cluster: Layout) -> dict[str, str]:
    path = f"{SUPPORT}:{Path(__file__).resolve().parents[1]}"
    return {**os.environ, "PYTHONPATH": path, "ANABRANCH_TEST_CACHE": str(cluster.servers)}


def datastores_answer(cluster: Layout) -> bool:
    """True once both servers accept connections at the node's address."""
    ports = (cluster.brokers, cluster.redis_url.removeprefix("redis://").removesuffix("/0"))
    return all(succeeds("bash", "-c", f"exec 3<>/dev/tcp/{port.replace(':', '/')}") for port in ports)


def main(folder: Path, address: str) -> None:
    """Run both servers until SIGTERM."""
    from servers.kafka_node import kafka_node
    from servers.redis_node import redis_node

    folder.mkdir(parents=True, exist_ok=True)
    protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CLUSTER:PLAINTEXT"
    broker = kafka_node(
        folder / "kafka",
        settings={"listener.security.protocol.map": protocols, "broker.session.timeout.ms": "60000"},
        listeners={"CLUSTER": f"{address}:9092"},
    )
    store = redis_node(
        folder / "redis", port=6379, settings={"bind": f"127.0.0.1 {address}", "protected-mode": "no"}
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        store.start()
        broker.start()
        signal.pause()
    finally:
        broker.stop()
        store.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
