"""Chooses the Kafka and Redis of the tests: those named in the environment, else containers, else processes.

Only chooses; the modules of each kind run it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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
    named = os.environ.get(BROKERS_VARIABLE)
    if named is None:
        return private_kafka(directory, PATIENT)
    if not broker_answers(named):
        raise ServerUnavailableError(f"no Kafka responds at {BROKERS_VARIABLE}={named}")
    return NamedServer(named)


def find_redis(directory: Path) -> ServerHandle:
    """The Redis for the whole test run, not started yet.

    Raises ServerUnavailableError with the reason and the remedy if there is none.
    """
    named = os.environ.get(REDIS_VARIABLE)
    if named is None:
        return private_redis(directory)
    if not redis_answers(named):
        raise ServerUnavailableError(f"no Redis responds at {REDIS_VARIABLE}={named}")
    return NamedServer(named)


def private_kafka(directory: Path, settings: Mapping[str, str] | None = None) -> ServerHandle:
    """A broker for one test, not started yet; raises ServerUnavailableError if none can be run."""
    if _engine_answers():
        return containers.kafka_container(settings)
    try:
        return kafka_node(directory, settings=settings)
    except ServerUnavailableError as missing:
        raise ServerUnavailableError(
            f"{missing}; or name one in {BROKERS_VARIABLE}, or start a container engine"
        ) from missing


def private_redis(directory: Path, settings: Mapping[str, str] | None = None) -> ServerHandle:
    """A Redis for one test, not started yet; raises ServerUnavailableError if none can be run."""
    if _engine_answers():
        return containers.redis_container(settings)
    try:
        return redis_node(directory, settings=settings)
    except ServerUnavailableError as missing:
        raise ServerUnavailableError(
            f"{missing}; or name one in {REDIS_VARIABLE}, or start a container engine"
        ) from missing
