"""Services that start before Kafka and Redis, as processes: alive and unready, and ready once both are there."""

from __future__ import annotations

from pathlib import Path

import httpx
from cluster import Cluster, await_true, cluster_with_agents
from servers.process import ServerHandle, free_port

SERVICES = ("agency", "taskgroup", "eventmanager", "gateway")


def _probe(port: int, path: str) -> tuple[int, str]:
    try:
        found = httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=5)
    except httpx.HTTPError as error:
        return 0, repr(error)
    return found.status_code, str(found.json()["detail"])


def test_services_wait_for_the_servers_they_start_before(
    broker_process: ServerHandle, redis_process: ServerHandle, prefix: str, tmp_path: Path
) -> None:
    broker_process.stop()
    redis_process.stop()
    cluster = cluster_with_agents(tmp_path, broker_process.address, redis_process.address, prefix)
    try:
        _start_before(cluster, broker_process, redis_process)
    finally:
        cluster.stop()


def _start_before(cluster: Cluster, broker: ServerHandle, store: ServerHandle) -> None:
    ports = {service: free_port() for service in SERVICES}
    for service, port in ports.items():
        cluster.start(service, "--health-port", str(port))
    for port in ports.values():
        await_true(lambda port=port: "waiting to start: Kafka cannot be reached" in _probe(port, "readyz")[1], 90)
        assert _probe(port, "readyz")[0] == 503
        assert _probe(port, "livez")[0] == 200

    broker.start()
    for port in ports.values():
        await_true(lambda port=port: "Redis cannot be reached" in _probe(port, "readyz")[1], 90)
        assert _probe(port, "livez")[0] == 200
    store.start()

    for port in ports.values():
        await_true(lambda port=port: _probe(port, "readyz")[0] == 200, 90)
    assert [process.terminate() for process in cluster.processes] == [0, 0, 0, 0]
