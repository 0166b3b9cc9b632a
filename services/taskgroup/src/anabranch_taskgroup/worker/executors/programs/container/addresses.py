"""Finds the socket of the container engine. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from anabranch.core.errors import Misconfigured

_SETTING = "ANABRANCH_CONTAINER_SOCKET"


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where an engine listens: at a path of a Unix socket, or at a host and port.

    A TCP address is for a socket that a proxy of the user's makes available: it has neither encryption nor a check
    of the caller.
    """

    path: str | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"


def engine_address(
    setting: str | None, environment: Mapping[str, str], exists: Callable[[str], bool]
) -> EngineAddress:
    """The address of the engine: the setting, else `DOCKER_HOST`, else the usual socket that exists.

    Raises:
        Misconfigured: the address has another form.
    """
    if setting:
        return parse_address(setting, _SETTING)
    if environment.get("DOCKER_HOST"):
        return parse_address(environment["DOCKER_HOST"], "DOCKER_HOST")
    runtime = environment.get("XDG_RUNTIME_DIR")
    usual = [
        "/var/run/docker.sock",
        *([f"{runtime}/podman/podman.sock"] if runtime else []),
        "/run/podman/podman.sock",
    ]
    return EngineAddress(path=next((path for path in usual if exists(path)), usual[0]))


def parse_address(text: str, name: str) -> EngineAddress:
    """Parse `unix:///path`, `/path` or `tcp://host:port`.

    Raises:
        Misconfigured: the text has another form; `name` is the setting that has it.
    """
    if text.startswith("/"):
        return EngineAddress(path=text)
    parts = urlsplit(text)
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return EngineAddress(path=parts.path)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme in ("tcp", "http") and parts.hostname and port and parts.path in ("", "/"):
        return EngineAddress(host=parts.hostname, port=port)
    raise Misconfigured(
        name,
        f"{text!r} is not the address of a socket",
        "write unix:///path/of/the.sock, or tcp://host:port of a proxy in a private network",
    )
