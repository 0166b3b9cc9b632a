"""A server run as a child process: started, awaited, killed, frozen and restarted at the same address.

Handles processes and deadlines; must not depend on Kafka or Redis (kafka_node and redis_node do).
"""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

LOOPBACK = "127.0.0.1"


class ServerUnavailableError(Exception):
    """Raised if no server of the kind is available; the message has the attempts and the remedy."""


class ServerHandle(Protocol):
    """A test's handle of a server: its address, and the faults that the test may inject."""

    address: str

    def start(self) -> None:
        """Start it (again) at the same address with the data on its disk, and wait until it responds."""

    def stop(self) -> None:
        """Stop it in good order; does nothing if it is not running."""

    def kill(self) -> None:
        """Kill it, as a power cut would."""

    def pause(self) -> None:
        """Freeze it: connections stay open, but nothing responds."""

    def resume(self) -> None:
        """Let a frozen server continue."""

    def wipe(self) -> None:
        """Delete all data on its disk; only while it is not running."""


def free_port() -> int:
    """A free TCP port on loopback (which another process might take before it is used)."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def await_until(
    ready: Callable[[], bool],
    deadline_seconds: float,
    give_up: Callable[[], str | None],
) -> None:
    """Poll `ready` until it is true; `give_up` may end the wait early with a reason.

    Raises ServerUnavailableError with that reason, or at the deadline.
    """
    end = time.monotonic() + deadline_seconds
    while not ready():
        reason = give_up()
        if reason is None and time.monotonic() > end:
            reason = f"not ready after {deadline_seconds:g} s"
        if reason is not None:
            raise ServerUnavailableError(reason)
        time.sleep(0.05)


def _die_with_parent() -> list[str]:
    """A command prefix that stops the server even if the test runner itself is killed with SIGKILL."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


class ServerProcess:
    """A server as a child of this process, stopped at the latest when the process exits."""

    def __init__(
        self,
        *,
        name: str,
        address: str,
        command: Sequence[str],
        directory: Path,
        is_ready: Callable[[], bool],
        prepare: Callable[[], None] = lambda: None,
        deadline_seconds: float = 60.0,
    ) -> None:
        """`prepare` runs before each start and has to be idempotent; `directory` has all its data."""
        self.name = name
        self.address = address
        self.directory = directory
        self.log_path = directory.parent / f"{directory.name}.log"
        self._command = [*_die_with_parent(), *command]
        self._is_ready = is_ready
        self._prepare = prepare
        self._deadline_seconds = deadline_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def pid(self) -> int | None:
        """The running server's process id, None while it is not running."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        if self._child is None:
            self.begin()
            self.await_answer()

    def begin(self) -> None:
        """Start it without waiting: servers of one cluster respond only together."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._prepare()
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                self._command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        atexit.register(self.kill)

    def await_answer(self) -> None:
        """Wait until it responds; otherwise stops it and raises ServerUnavailableError."""
        try:
            await_until(self._is_ready, self._deadline_seconds, self._why_it_ended)
        except BaseException:
            self.kill()
            raise

    def _why_it_ended(self) -> str | None:
        if self._child is None or self._child.poll() is None:
            return None
        code = self._child.returncode
        return f"{self.name} ended with code {code} at its start; its log: {self.log_tail()}"

    def log_tail(self, characters: int = 2000) -> str:
        """The last output of the server, for an error message."""
        return self.log_path.read_text(errors="replace")[-characters:]

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it in good order and start it again at the same address."""
        self.stop()
        self.start()

    def pause(self) -> None:
        if self._child is not None:
            self._child.send_signal(signal.SIGSTOP)
            self._frozen = True

    def resume(self) -> None:
        if self._child is not None and self._frozen:
            self._child.send_signal(signal.SIGCONT)
        self._frozen = False

    def wipe(self) -> None:
        if self._child is not None:
            raise RuntimeError(f"{self.name} is running: stop or kill it before its disk is wiped")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        child = self._child
        if child is None:
            return
        # A frozen process does not handle SIGTERM.
        self.resume()
        child.send_signal(how)
        try:
            child.wait(timeout=15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(timeout=15)
        self._child = None
        atexit.unregister(self.kill)
