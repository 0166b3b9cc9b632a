"""Chooses the Kafka and Redis of the tests: those named in the environment, else containers, else processes.

Only chooses; the modules of each kind run it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from servers import containers
from servers.kafka_node import broker_answers, kafka_node
from servers.process import ServerHandle, ServerUnavailableError
from servers.redis_node import redis_answers, redis_node

BROKERS_VARIABLE = "ANABRANCH_TEST_BROKERS"
REDIS_VARIABLE = "ANABRANCH_TEST_REDIS_URL"


@cache
def _engine_answers() -> bool:
    return containers.engine_answers()


PATIENT = {"broker.session.timeout.ms": "60000"}
"""The shared broker is never killed, and must not lose its partitions when the machine is busy."""


class NamedServer:
    """A server run by someone else: usable, but never stopped by a test."""

    def __init__(self, address: str) -> None:
        self.address = address

    def start(self) -> None:
        """It is already running."""

    def stop(self) -> None:
        """It must not be stopped."""

    def _refuse(self) -> None:
        raise ServerUnavailableError(
            f"{self.address} was named in the environment: tests may not stop or damage it"
        )

    kill = pause = resume = wipe = _refuse


def find_kafka(directory: Path) -> ServerHandle:
    """The broker for the whole test run, not started yet.

    Raises ServerUnavailableError with the reason and the remedy if there is none.
    """
    return _named("Kafka", BROKERS_VARIABLE, broker_answers) or private_kafka(directory, PATIENT)


def find_redis(directory: Path) -> ServerHandle:
    """The Redis for the whole test run, not started yet.

    Raises ServerUnavailableError with the reason and the remedy if there is none.
    """
    return _named("Redis", REDIS_VARIABLE, redis_answers) or private_redis(directory)


def started_servers(stack: ExitStack, folder: Path) -> tuple[ServerHandle, ServerHandle]:
    """The Kafka and the Redis of `find_kafka` and `find_redis`, started, and stopped with `stack`. Their files are
    in `folder`."""
    kafka, redis = find_kafka(folder / "kafka"), find_redis(folder / "redis")
    for server in (kafka, redis):
        server.start()
        stack.callback(server.stop)
    return kafka, redis


def _named(kind: str, variable: str, answers: Callable[[str], bool]) -> NamedServer | None:
    address = os.environ.get(variable)
    if address is None:
        return None
    if not answers(address):
        raise ServerUnavailableError(f"no {kind} responds at {variable}={address}")
    return NamedServer(address)


def private_kafka(directory: Path, settings: Mapping[str, str] | None = None) -> ServerHandle:
    """A broker for one test, not started yet; raises ServerUnavailableError if none can be run."""
    return _private(
        BROKERS_VARIABLE,
        lambda: containers.kafka_container(settings),
        lambda: kafka_node(directory, settings=settings),
    )


def private_redis(directory: Path, settings: Mapping[str, str] | None = None) -> ServerHandle:
    """A Redis for one test, not started yet; raises ServerUnavailableError if none can be run."""
    return _private(
        REDIS_VARIABLE,
        lambda: containers.redis_container(settings),
        lambda: redis_node(directory, settings=settings),
    )


def _private(
    variable: str, container: Callable[[], ServerHandle], process: Callable[[], ServerHandle]
) -> ServerHandle:
    if _engine_answers():
        return container()
    try:
        return process()
    except ServerUnavailableError as missing:
        raise ServerUnavailableError(
            f"{missing}; or name one in {variable}, or start a container engine"
        ) from missing
