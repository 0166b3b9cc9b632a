"""The two servers as containers, if an engine responds; on fixed host ports, so that they survive a restart.

Must not choose between kinds of server (finder does).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from servers.kafka_node import SETTINGS as KAFKA_SETTINGS
from servers.kafka_node import VERSION, broker_answers
from servers.process import LOOPBACK, await_until, free_port
from servers.redis_node import SETTINGS as REDIS_SETTINGS
from servers.redis_node import redis_answers

KAFKA_IMAGE = f"apache/kafka:{VERSION}"
REDIS_IMAGE = "valkey/valkey:9-alpine"


def engine_answers() -> bool:
    """True if something listens where the Docker client looks for a container engine."""
    # Not by the client library, which leaks its socket when nothing responds.
    engine = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    by_path = engine.scheme == "unix"
    address = engine.path if by_path else (engine.hostname, engine.port or 2375)
    with socket.socket(socket.AF_UNIX if by_path else socket.AF_INET) as probe:
        probe.settimeout(3)
        try:
            probe.connect(address)
        except OSError:
            return False
    return True


class ContainerServer:
    """A server in a container, with the same faults as a process."""

    def __init__(self, *, address: str, create: Callable[[], Any], is_ready: Callable[[], bool]) -> None:
        """`create` builds the testcontainers container, not yet started."""
        self.address = address
        self._create = create
        self._is_ready = is_ready
        self._container: Any = None

    def start(self) -> None:
        if self._container is None:
            self._container = self._create()
            self._container.start()
        else:
            self._container.get_wrapped_container().start()
        await_until(self._is_ready, 120, self._why_it_ended)

    def _why_it_ended(self) -> str | None:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        if wrapped.status in ("created", "running"):
            return None
        return f"the container is {wrapped.status}: {wrapped.logs(tail=20).decode(errors='replace')}"

    def stop(self) -> None:
        if self._container is not None:
            self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        if self._container is not None:
            self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        self._container.get_wrapped_container().unpause()

    def wipe(self) -> None:
        """Remove the container with all its data; the next start creates another."""
        if self._container is not None:
            self._container.stop()
            self._container = None


def kafka_container(settings: Mapping[str, str] | None = None) -> ContainerServer:
    """A broker in a container; not started yet."""
    from testcontainers.core.container import DockerContainer

    port = free_port()
    placed = {
        "listeners": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.quorum.voters": "1@localhost:9093",
    }

    def create() -> Any:
        container = DockerContainer(KAFKA_IMAGE).with_bind_ports(port, port)
        for name, value in {**KAFKA_SETTINGS, **placed, **(settings or {})}.items():
            container = container.with_env(f"KAFKA_{name.replace('.', '_').upper()}", value)
        return container

    address = f"{LOOPBACK}:{port}"
    return ContainerServer(address=address, create=create, is_ready=lambda: broker_answers(address))


def redis_container(settings: Mapping[str, str] | None = None) -> ContainerServer:
    """A Redis-compatible server in a container; not started yet."""
    from testcontainers.core.container import DockerContainer

    port = free_port()
    options = {**REDIS_SETTINGS, "bind": "0.0.0.0", "protected-mode": "no", **(settings or {})}
    command = ["valkey-server", *(part for name, value in options.items() for part in (f"--{name}", value))]

    def create() -> Any:
        return DockerContainer(REDIS_IMAGE).with_bind_ports(6379, port).with_command(command)

    address = f"redis://{LOOPBACK}:{port}/0"
    return ContainerServer(address=address, create=create, is_ready=lambda: redis_answers(address))
