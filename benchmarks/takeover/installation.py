"""An installation whose topics have one partition, with open runs, other traffic, and owners that take turns."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping

from cluster import Cluster, User, await_true
from confluent_kafka import Consumer, TopicPartition
from requests_made import echo, request

from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.weighing import ends_under, fetched_bytes
from anabranch.cli.bench.processor_time import processor_seconds
from anabranch.core.names import Names
from anabranch.ports import Committed
from anabranch.runtime.ownership.replay import replay_begin
from takeover.figures import Claim, Takeover, claims_in, records_of

OWNERS = ("agency", "taskgroup")
WAIT_SECONDS = 1_800.0
REBUILT_SECONDS = 12.0
"""Owners commit the replay position of ten seconds before: two loss windows."""


class Installation:
    """Owners of the topics `runs` and `groups`, one partition of each."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.names = Names(cluster.prefix)
        self.open_runs = 0
        self._kafka = KafkaSettings(cluster.brokers, {})
        self._topics: Mapping[str, str] = {
            self.names.runs: self.names.agency_runs,
            self.names.groups: self.names.taskgroup_groups,
        }

    def start_owners(self, snapshot_idle: str) -> None:
        """Start an Agency and a TaskGroup; `snapshot_idle` is the setting."""
        self.cluster.environ = {**self.cluster.environ, "ANABRANCH_SNAPSHOT_IDLE": snapshot_idle}
        for service in OWNERS:
            self.cluster.start(service).await_ready()

    def open(self, count: int) -> None:
        """Open runs that have done one task, and wait for a person."""
        user = User(self.cluster, ("results",))
        for number in range(self.open_runs, self.open_runs + count):
            user.produce(waiting_request(number))
        user.await_records(lambda seen: seen.kind == "result.published", count, WAIT_SECONDS)
        user.close()
        self.open_runs += count

    def run_others(self, count: int, at_once: int = 200) -> None:
        """Complete other runs, of three groups of three tasks."""
        command = self.cluster.command("bench", "runs", "--runs", str(count), "--at-once", str(at_once), "--json")
        done = subprocess.run(
            command,
            env=self.cluster.variables,
            cwd=self.cluster.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{done.stderr}\n{self.cluster.logs()}")
        print(f"  {json.loads(done.stdout)['runs_per_second']} runs a second", file=sys.stderr, flush=True)

    def finish_one(self) -> None:
        """Publish what the first open run waits for, and wait for its end."""
        user = User(self.cluster, ("results",))
        user.redis.set(f"session:{{{session_of(0)}}}:go", b"1", ex=600)
        user.await_records(lambda seen: seen.kind == "run.completed" and seen.body["session_id"] == session_of(0))
        user.close()
        self.open_runs -= 1

    def await_committed(self, replay_from: Mapping[str, int] | None = None) -> None:
        """Wait until all records are committed, and the replay positions are at least `replay_from`, by topic."""

        def settled() -> bool:
            ends = self.ends()
            for topic, group in self._topics.items():
                commit = self._commit(group, topic)
                if commit is None or commit.offset < ends[topic] - 1:
                    return False
                if replay_from is not None and replay_begin(commit) < replay_from[topic]:
                    return False
            return True

        time.sleep(REBUILT_SECONDS)
        await_true(settled, WAIT_SECONDS, self.cluster.logs)

    def ends(self) -> dict[str, int]:
        """The end of the partition of each topic."""
        found = ends_under(self._kafka, self.names.prefix)
        return {topic: found[topic][0] for topic in self._topics}

    def take_over(self, name: str, snapshot_idle: str) -> Takeover:
        """Let new owners, which run already, take over from the present ones."""
        before = sum(self.ends().values())
        old = list(self.cluster.processes)
        self.start_owners(snapshot_idle)
        new = self.cluster.processes[len(old) :]
        user = User(self.cluster, ("results",))
        ended_at = time.time()
        for process in old:
            process.popen.terminate()

        def claims() -> list[Claim]:
            return [claim for process in new for claim in claims_in(process.log.read_text())]

        pids = [process.popen.pid for process in new]
        used = sum(processor_seconds(pids).values())
        await_true(lambda: {claim.topic for claim in claims()} >= set(self._topics), WAIT_SECONDS)
        user.run(request(echo(1)), WAIT_SECONDS)
        decided_at, used = time.time(), sum(processor_seconds(pids).values()) - used
        user.close()
        for process in old:
            process.popen.wait(timeout=60)
        self.cluster.processes = new
        found = claims()
        return Takeover(
            name=name,
            open_runs=self.open_runs,
            log=before,
            records=records_of(found, self.names.prefix),
            wire_bytes=sum(fetched_bytes(self._kafka, each.topic, {each.partition: each.span}) for each in found),
            claim_seconds=round(max(each.at for each in found) - ended_at, 3),
            processor_seconds=round(used, 2),
            restore_seconds=round(decided_at - min(each.at for each in found), 3),
        )

    def _commit(self, group: str, topic: str) -> Committed | None:
        consumer = Consumer({"bootstrap.servers": self.cluster.brokers, "group.id": group, "log_level": 0})
        try:
            [place] = consumer.committed([TopicPartition(topic, 0)], timeout=30)
        finally:
            consumer.close()
        return None if place.offset < 0 else Committed(place.offset, place.metadata or "")


def waiting_request(number: int) -> dict[str, object]:
    """A run with one task that ends, and one that waits for the key `go`, which nobody publishes for a month."""
    return request(
        echo(number, name="first", key="first"),
        echo("{first}", name="last", key="last", dependencies=["first"], external_dependencies=["go"]),
        session_id=session_of(number),
        timeout="30d",
    )


def session_of(number: int) -> str:
    """The session of an open run."""
    return f"person-{number}"
