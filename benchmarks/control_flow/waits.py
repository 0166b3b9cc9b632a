"""Opens very many waits in one process, and ends them by records at a steady rate."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cluster import Cluster, User
from requests_made import request

from anabranch.cli.bench.processor_time import processor_seconds
from control_flow.figures import OpenWaits, percentile
from control_flow.services import resident

Json = dict[str, Any]
IDLE_SECONDS = 10.0
WAIT_SECONDS = 1_200.0


def signal_for(request_id: str, name: str) -> Json:
    return {"type": "signal", "request_id": request_id, "name": name, "value": name, "signal_id": name}


def wait_by_signal(name: str) -> Json:
    return {"signal": name}


def event_for(request_id: str, name: str) -> Json:
    return {"type": "event", "name": "go", "key": name, "id": f"{request_id}-{name}", "data": name}


def wait_by_event(name: str) -> Json:
    return {"event": {"name": "go", "key": name}}


BY: Mapping[str, tuple[Callable[[str], Json], Callable[[str, str], Json]]] = {
    "signal": (wait_by_signal, signal_for),
    "event": (wait_by_event, event_for),
}
"""By what ends the waits: the wait for a name, and the record that ends the wait of a run for it."""


class Waiting:
    """Runs whose members wait, all in one TaskGroup."""

    def __init__(self, cluster: Cluster, by: str) -> None:
        self.cluster, self.by = cluster, by
        self.user = User(cluster, ("events", "results"))
        self._ended: dict[tuple[str, int], float] = {}
        self._waiting = self._completed = 0

    def measure(self, waits: int, each: int, rate: float) -> OpenWaits:
        """Open the waits, `each` in one run; end them by `rate` records a second."""
        begun = time.monotonic()
        ids = list(self._open(waits, each))
        self._until(lambda: self._waiting >= waits)
        opened = time.monotonic() - begun
        idle = self._idle()
        pids = {process.popen.pid: process.service for process in self.cluster.processes}
        before = processor_seconds(list(pids))
        sent_at = self._send(ids, each, rate)
        self._until(lambda: len(self._ended) >= waits and self._completed >= len(ids))
        used = processor_seconds(list(pids))
        delays = [self._ended[place] - at for place, at in sent_at.items()]
        first, last = min(sent_at.values()), max(self._ended.values())
        return OpenWaits(
            waits=waits,
            runs=len(ids),
            by=self.by,
            opened_seconds=round(opened, 1),
            rate=round(waits / (max(sent_at.values()) - first), 1),
            ended_seconds=round(last - first, 2),
            p50_seconds=round(percentile(delays, 0.5), 3),
            p99_seconds=round(percentile(delays, 0.99), 3),
            idle_share=round(idle, 4),
            resident_mib={each.service: round(resident(each.popen.pid), 1) for each in self.cluster.processes},
            processor_seconds={service: round(used[pid] - before[pid], 1) for pid, service in pids.items()},
            load=round(os.getloadavg()[0], 1),
        )

    def _open(self, waits: int, each: int) -> Iterator[str]:
        wait, _ = BY[self.by]
        for number in range(waits // each):
            items = [f"r{number}-w{index}" for index in range(each)]
            config = {"type": "array", "array_mapping": {"each": items}, "output_format": "index"}
            task = {"name": "w", "wait": wait("{each}"), "expansion_config": config}
            document = request(task, timeout="30d")
            self.user.produce(document)
            yield document["request_id"]

    def _idle(self) -> float:
        pids = [process.popen.pid for process in self.cluster.processes]
        before, begun = sum(processor_seconds(pids).values()), time.monotonic()
        self._until(lambda: time.monotonic() - begun >= IDLE_SECONDS)
        return (sum(processor_seconds(pids).values()) - before) / (time.monotonic() - begun)

    def _send(self, ids: list[str], each: int, rate: float) -> dict[tuple[str, int], float]:
        """Send the records, in an order that goes through all runs; returns when each was sent."""
        _, record = BY[self.by]
        topic, producer = f"{self.cluster.prefix}requests", self.user.producer
        sent: dict[tuple[str, int], float] = {}
        begun = time.monotonic()
        for index in range(each):
            for number, request_id in enumerate(ids):
                document = record(request_id, f"r{number}-w{index}")
                while (ahead := len(sent) / rate - (time.monotonic() - begun)) > 0:
                    producer.poll(min(ahead, 0.01))
                producer.produce(topic, json.dumps(document).encode())
                sent[request_id, index] = time.time()
        producer.flush(30)
        return sent

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (self._waiting, len(self._ended), self.cluster.logs())
            self.user.read()
            for seen in self.user.seen:
                if seen.topic == "events":
                    self._take(seen.body)
                elif seen.kind == "run.completed":
                    self._completed += 1
            self.user.seen.clear()

    def _take(self, body: Mapping[str, Any]) -> None:
        for entry in body["entries"]:
            members = [index for start, stop in entry.get("spans", ()) for index in range(start, stop)]
            if entry["type"] == "task.waiting":
                self._waiting += len(members)
            elif entry["type"] == "task.completed":
                for index in members:
                    self._ended[body["request_id"], index] = entry["time"]
