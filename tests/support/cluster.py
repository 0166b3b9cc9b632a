"""The services as separate processes on real servers, and a user with only Kafka and Redis clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

FINAL = ("run.completed", "run.failed", "run.cancelled", "run.timed_out", "run.rejected")
START_SECONDS = 180.0


@dataclass
class Process:
    """One service process. `log` has its output."""

    service: str
    popen: subprocess.Popen[bytes]
    log: Path
    options: Sequence[str] = ()

    def await_ready(self) -> None:
        await_true(lambda: b" ready" in self.log.read_bytes() or self.popen.poll() is not None, START_SECONDS)
        assert self.popen.poll() is None, self.log.read_text()

    def kill(self) -> None:
        """Send SIGKILL: nothing is flushed, committed or logged."""
        self.popen.kill()
        self.popen.wait()

    def suspend(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        self.popen.terminate()
        return self.popen.wait(timeout=60)


@dataclass
class Cluster:
    """Processes of one installation, with a separate prefix on shared servers."""

    folder: Path
    brokers: str
    redis_url: str
    prefix: str
    environ: Mapping[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "anabranch", *arguments]

    @property
    def variables(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANABRANCH_BROKERS": self.brokers,
            "ANABRANCH_REDIS_URL": self.redis_url,
            "ANABRANCH_PREFIX": self.prefix,
            "TMPDIR": str(self.folder),  # a killed process does not clean up
            **self.environ,
        }

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    def start(self, service: str, *options: str) -> Process:
        """Start one service without waiting for it."""
        log = self.folder / f"{service}-{len(self.processes)}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                self.command(service, *options),
                env=self.variables,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process = Process(service, popen, log, options)
        self.processes.append(process)
        return process

    def replace(self, process: Process) -> Process:
        """Kill a process with SIGKILL, and start another one with its options."""
        process.kill()
        return self.start(process.service, *process.options)

    def start_all(self, workers: int = 2, agents: str = "", concurrency: int = 64) -> None:
        """Start an Agency, TaskGroups and an EventManager on new topics; returns when all are ready."""
        created = self.run("topics", "create")
        assert created.returncode == 0, created.stderr
        options = ("--concurrency", str(concurrency), *(("--agents", agents) if agents else ()))
        for service in ("agency", *("taskgroup",) * workers, "eventmanager"):
            self.start(service, *(options if service == "taskgroup" else ()))
        for process in self.processes:
            process.await_ready()

    def of(self, service: str) -> list[Process]:
        """The running processes of a service."""
        return [p for p in self.processes if p.service == service and p.popen.poll() is None]

    def stop(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.kill()

    def logs(self) -> str:
        return log_tails(process.log for process in self.processes)


def cluster_with_agents(folder: Path, brokers: str, redis_url: str, prefix: str, **variables: str) -> Cluster:
    """A cluster of which nothing is started, whose processes find the agents in `tests/support`."""
    trace = folder / "trace.txt"
    trace.touch()
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    environ = {"PYTHONPATH": path, "ANABRANCH_TEST_TRACE": str(trace), "CI": "", **variables}
    return Cluster(folder, brokers, redis_url, prefix, environ)


def log_tails(logs: Iterable[Path]) -> str:
    """The last 3,000 characters of each file, below its name."""
    return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in logs)


Start = Callable[..., Cluster]
"""Type of the fixture `start`: starts a cluster on given servers."""


@dataclass(frozen=True)
class Seen:
    """A record as a plain consumer sees it."""

    topic: str
    key: str | None
    kind: str
    headers: dict[str, bytes]
    value: bytes

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.value)


class User:
    """Produces requests without a record key and consumes results, with only librdkafka and redis-py."""

    def __init__(self, cluster: Cluster, topics: Iterable[str] = ("results", "events", "dead-letters")) -> None:
        self.cluster = cluster
        self.producer = Producer({"bootstrap.servers": cluster.brokers, "linger.ms": 0, "log_level": 0})
        self.redis = redis.Redis.from_url(cluster.redis_url)
        self.consumer = Consumer(
            {
                "bootstrap.servers": cluster.brokers,
                "group.id": f"user-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        self.seen: list[Seen] = []
        self._assign([cluster.prefix + topic for topic in topics])

    def _assign(self, topics: list[str]) -> None:
        # Assigned at the ends, not subscribed: no wait for a rebalance, and no records of earlier tests.
        metadata = self.consumer.list_topics(timeout=30)
        parts = [TopicPartition(t, p) for t in topics for p in metadata.topics[t].partitions]
        self.consumer.assign([TopicPartition(p.topic, p.partition, self._end_of(p)) for p in parts])

    def _end_of(self, partition: TopicPartition) -> int:
        """The next offset. Waits for a leader of a new partition, or of one whose broker was just unavailable."""
        found: list[int] = []

        def answered() -> bool:
            try:
                found.append(self.consumer.get_watermark_offsets(partition, timeout=10)[1])
            except KafkaException:
                return False
            return True

        await_true(answered, 60, self.cluster.logs)
        return found[-1]

    def close(self) -> None:
        self.consumer.close()
        self.redis.close()

    def produce(self, document: Any, *, headers: Mapping[str, str] | None = None, key: str | None = None) -> None:
        """Produce a request, given as an object or as raw bytes, to the requests topic."""
        value = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.producer.produce(
            self.cluster.prefix + "requests", value, key=key, headers=[(k, v) for k, v in (headers or {}).items()]
        )
        assert self.producer.flush(30) == 0

    def read(self) -> None:
        """Receive the records that have arrived."""
        for message in self.consumer.consume(500, timeout=0.1):
            assert message.error() is None, message.error()
            headers = dict(message.headers() or [])
            self.seen.append(
                Seen(
                    topic=message.topic().removeprefix(self.cluster.prefix),
                    key=message.key().decode() if message.key() else None,
                    kind=headers.get("ce_type", b"").decode(),
                    headers=headers,
                    value=message.value(),
                )
            )

    def await_records(self, wanted: Callable[[Seen], bool], count: int = 1, seconds: float = 60.0) -> list[Seen]:
        """Return the matching records, once there are `count`."""

        def enough() -> bool:
            self.read()
            return sum(map(wanted, self.seen)) >= count

        await_true(enough, seconds, self.cluster.logs)
        return [seen for seen in self.seen if wanted(seen)]

    def await_final(self, request_id: str, seconds: float = 60.0) -> Seen:
        """Return the final (or rejected) record of a request."""
        return self.await_records(lambda s: s.kind in FINAL and s.body["request_id"] == request_id, 1, seconds)[0]

    def run(self, document: dict[str, Any], seconds: float = 60.0) -> dict[str, Any]:
        """Produce a request and return the body of its final record."""
        request_id = document.setdefault("request_id", str(uuid.uuid4()))
        self.produce(document)
        return self.await_final(request_id, seconds).body

    def value(self, session_id: str, key: str) -> Any:
        """The value in Redis under the public name of a result."""
        found = self.redis.get(f"session:{{{session_id}}}:{key}")
        return None if found is None else json.loads(found)


def await_true(condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = str) -> None:
    """Wait for a condition of other processes; checks every 20 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s\n{explain()}"
        time.sleep(0.02)
