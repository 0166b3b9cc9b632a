"""Runs a loop of very many iterations, and watches the memory of the services and the size of the run's state."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from cluster import FINAL, Cluster, User
from confluent_kafka import Consumer, TopicPartition
from requests_made import echo, request

from anabranch.cli.bench.processor_time import processor_seconds
from control_flow.figures import LoopRun
from control_flow.services import resident

BODIES: Mapping[str, Mapping[str, Any]] = {
    "an agent": echo(1),
    "a wait that ends at once": {"name": "t", "wait": {"until": "2020-01-01T00:00:00Z"}},
}
"""Tasks that do nothing: one is called by a worker, the other is decided by the owner alone."""
MARKS = (0.1, 0.3, 0.5, 0.7, 0.9)
WAIT_SECONDS = 7_200.0


def run_loop(cluster: Cluster, body: str, iterations: int) -> LoopRun:
    """Run one loop to its end."""
    user = User(cluster, ("results", "events"))
    pids = {process.popen.pid: process.service for process in cluster.processes}
    before = processor_seconds(list(pids))
    spec = {"while": "iteration >= 0", "max_iterations": iterations, "on_limit": "complete"}
    document = request()
    document |= {"timeout": "2d", "task_groups": [{"name": "l", "loop": spec, "tasks": [BODIES[body]]}]}
    sizes: dict[str, list[float]] = {service: [] for service in pids.values()}
    marks = [*(int(share * iterations) for share in MARKS)]
    begun = time.monotonic()
    user.produce(document)
    final, ended = None, 0
    while final is None and time.monotonic() - begun < WAIT_SECONDS:
        user.read()
        for seen in user.seen:
            if seen.kind in FINAL:
                final = seen.body
            elif seen.topic == "events":
                ended += sum(entry["type"] == "iteration.completed" for entry in seen.body["entries"])
        user.seen.clear()
        while marks and ended >= marks[0]:
            marks.pop(0)
            _note(sizes, pids)
    seconds = time.monotonic() - begun
    _note(sizes, pids)
    assert final is not None, cluster.logs()
    assert (final["status"], final["results"]["l.loop"]["iterations"]) == ("completed", iterations), final
    used = processor_seconds(list(pids))
    snapshots = _snapshot_bytes(cluster, final["run_id"])
    user.close()
    return LoopRun(
        body=body,
        iterations=iterations,
        seconds=round(seconds, 1),
        resident_mib=sizes,
        snapshots=len(snapshots),
        snapshot_bytes=(snapshots[0], snapshots[-1]) if snapshots else (0, 0),
        processor_seconds={service: round(used[pid] - before[pid], 1) for pid, service in pids.items()},
        load=round(os.getloadavg()[0], 1),
    )


def _note(sizes: dict[str, list[float]], pids: Mapping[int, str]) -> None:
    for pid, service in pids.items():
        sizes[service].append(round(resident(pid), 1))


def _snapshot_bytes(cluster: Cluster, run_id: str) -> list[int]:
    """The sizes of the snapshots that the session's owner appended about a run, in order."""
    consumer = Consumer({"bootstrap.servers": cluster.brokers, "group.id": f"bench-{os.getpid()}", "log_level": 0})
    topic = f"{cluster.prefix}groups"
    found = []
    try:
        for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            if high == low:
                continue
            consumer.assign([TopicPartition(topic, partition, low)])
            offset = low
            while offset < high - 1:
                for message in consumer.consume(2_000, timeout=5):
                    offset = message.offset()
                    header = json.loads(message.value().partition(b"\n")[0])
                    if header.get("type") == "snapshot" and header.get("run_id") == run_id:
                        found.append(len(message.value()))
    finally:
        consumer.close()
    return found
