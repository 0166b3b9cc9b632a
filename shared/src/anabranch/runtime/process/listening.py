"""Opens listening sockets and translates their errors."""

from __future__ import annotations

import errno
import socket

from anabranch.core.errors import Misconfigured


class PortTaken(Misconfigured):
    """Another process listens on ``port`` of ``host``; ``reason`` describes that process."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host = host
        self.port = port
        super().__init__(f"port {port}", reason, "name another with --port")
        # The arguments of `__init__`, from which pickle and copy create the exception again.
        self.args = (host, port, reason)

    def __str__(self) -> str:
        return f"port {self.port} is already in use: {self.reason}; {self.fix}"


def listen(host: str, port: int, backlog: int = 128) -> socket.socket:
    """Create a socket that listens on a port of an address of this machine; the system chooses for port 0.

    Raises:
        PortTaken: another process listens there. Misconfigured: no permission, or not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, f"another process listens on {host}:{port}") from error
        reason = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise Misconfigured(
            "gateway_port", reason, "name another address with --host, another port with --port"
        ) from error
