"""A listening socket for a server of this process, and what it means that there is none to be had."""

from __future__ import annotations

import errno
import socket

from anabranch.core.errors import Misconfigured


class PortTaken(Misconfigured):
    """Another process listens on ``port`` of ``host``; ``reason`` says what is known of it."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host = host
        self.port = port
        super().__init__(f"port {port}", reason, "name another with --port")
        self.args = (host, port, reason)

    def __str__(self) -> str:
        return f"port {self.port} is already in use: {self.reason}; {self.fix}"


def listen(host: str, port: int, backlog: int = 128) -> socket.socket:
    """A socket that listens on a port of an address of this machine; 0 for any port.

    Raises:
        PortTaken: another process listens there. Misconfigured: this process may not, or the address is not here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, f"another process listens on {host}:{port}") from error
        reason = f"{host}:{port} cannot be listened on: {error.strerror or error}"
        raise Misconfigured(
            "gateway_port", reason, "name another address with --host, another port with --port"
        ) from error
