"""One Apache Kafka broker in KRaft mode from Maven's jars: a process on loopback, no container.

It needs only Java 17 and Maven. Must not choose between kinds of server (finder does).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from servers.process import LOOPBACK, ServerProcess, ServerUnavailableError, free_port

HERE = Path(__file__).resolve().parent
VERSION = "4.3.0"
CLUSTER_ID = "YW5hYnJhbmNoLXRlc3RzIQ"
"""Any 16 bytes in base64: the tests' cluster needs no random name."""

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    # Off, as in most production clusters: a missing topic has to be noticed.
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    # By default the first member of a group waits three seconds for others.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A killed broker is admitted again only after its old session has expired.
    "broker.heartbeat.interval.ms": "300",
    "broker.session.timeout.ms": "2000",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "num.network.threads": "2",
    "num.io.threads": "4",
}


def cache_directory() -> Path:
    """The folder of jars, kept between test runs: `.servers` beside the code, or $ANABRANCH_TEST_CACHE."""
    named = os.environ.get("ANABRANCH_TEST_CACHE")
    return Path(named) if named else HERE.parents[1] / ".servers"


def broker_jars() -> Path:
    """Return the folder of the broker's jars, which Maven downloads at the first call.

    Raises ServerUnavailableError if Java or Maven is missing or the download fails.
    """
    if shutil.which("java") is None:
        raise ServerUnavailableError("java is missing: install Java 17 or newer (Debian: openjdk-17-jre-headless)")
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    jars = cache / f"kafka-{VERSION}"
    # Several test runs may start at once: one downloads, the others wait for it.
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            _fetch_jars(jars)
    return jars


def _fetch_jars(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerUnavailableError(
            "mvn is missing, which downloads the broker's jars: install Maven (Debian: maven)"
        )
    partial = jars.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    fetched = subprocess.run(
        [
            maven,
            "--batch-mode",
            "--quiet",
            "--file",
            str(HERE / "pom.xml"),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={partial}",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if fetched.returncode != 0:
        raise ServerUnavailableError(f"mvn could not download the broker's jars: {fetched.stdout[-2000:]}")
    # Renamed once complete: an interrupted download must not look like a finished one.
    partial.rename(jars)


def kafka_node(
    directory: Path,
    *,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    listeners: Mapping[str, str] | None = None,
    number: int = 1,
    controllers: Mapping[int, str] | None = None,
) -> ServerProcess:
    """A broker that keeps its log in `directory`; not started yet. `settings` override SETTINGS.

    `listeners` (name -> host:port) are added to PLAINTEXT; `listener.security.protocol.map` has to include them.
    `controllers` (node id -> host:port) are all nodes of the cluster, of which this one is `number`.
    """
    jars = broker_jars()
    port = port or free_port()
    address = f"{LOOPBACK}:{port}"
    properties = directory.parent / f"{directory.name}.properties"
    directory.parent.mkdir(parents=True, exist_ok=True)
    voters = controllers or {number: f"{LOOPBACK}:{free_port()}"}
    placed = _placed(directory, address, listeners or {}, number, voters)
    lines = {**SETTINGS, **placed, **(settings or {})}
    properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return ServerProcess(
        name="kafka",
        address=address,
        command=[*_java(jars), "kafka.Kafka", str(properties)],
        directory=directory,
        is_ready=lambda: broker_answers(address),
        prepare=lambda: _format(jars, directory, properties),
    )


def _placed(
    directory: Path, address: str, listeners: Mapping[str, str], number: int, voters: Mapping[int, str]
) -> dict[str, str]:
    public = ",".join(f"{name}://{host}" for name, host in {"PLAINTEXT": address, **listeners}.items())
    return {
        "node.id": str(number),
        "listeners": f"{public},CONTROLLER://{voters[number]}",
        "advertised.listeners": public,
        "controller.quorum.voters": ",".join(f"{node}@{host}" for node, host in voters.items()),
        "log.dirs": str(directory),
    }


def _java(jars: Path) -> list[str]:
    logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
    return ["java", "-Xms256m", "-Xmx1g", "-XX:+ExitOnOutOfMemoryError", logging, "-cp", f"{jars}/*"]


def _format(jars: Path, directory: Path, properties: Path) -> None:
    """Format the log folder before the first start; an already formatted one is kept."""
    if (directory / "meta.properties").exists():
        return
    command = [*_java(jars), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise ServerUnavailableError(f"the broker's storage was not formatted: {done.stdout}{done.stderr}")


def broker_answers(address: str) -> bool:
    """True if a Kafka broker at `address` responds to a metadata request within a second."""
    # By default librdkafka prints each refused connection to standard error.
    client = AdminClient({"bootstrap.servers": address, "log_level": 0, "error_cb": lambda _: None})
    try:
        return len(client.list_topics(timeout=1.0).brokers) > 0
    except KafkaException:
        return False
