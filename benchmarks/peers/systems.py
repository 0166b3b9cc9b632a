"""The compared systems: how to start the workers of each, and how to run one fan-out on them.

Each peer has its own virtual environment, from a lock file with hashes; Anabranch uses the current one.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import venv
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

HERE = Path(__file__).parent
APPS = HERE / "apps"
START_SECONDS = 60.0
STOP_SECONDS = 15.0


class OverLimit(Exception):
    """A fan-out exceeded the limit."""


class Broken(Exception):
    """A worker or a client ended with an error; the message has its output."""


@dataclass(frozen=True)
class Servers:
    """Addresses of Kafka and Redis."""

    brokers: str
    redis_url: str


class System(Protocol):
    """A compared system."""

    @property
    def name(self) -> str:
        """Name of the system."""

    @property
    def settings(self) -> str:
        """Versions, and settings of the workers."""

    def prepare(self) -> None:
        """Install the system, unless it is installed."""

    def workers(self, servers: Servers, folder: Path, unique: str) -> AbstractContextManager[object]:
        """Run workers while the context is open. `unique` separates their queues from those of other runs."""

    def fan_out(self, servers: Servers, unique: str, tasks: int, limit: float) -> float:
        """Run one fan-out and join after a warm-up; returns its seconds. Raises OverLimit, Broken."""


class Peer:
    """A library with an app in apps/ and a lock file in requirements/."""

    def __init__(self, name: str, package: str, words: str, command: list[str], environments: Path) -> None:
        """`command` starts the workers; its first word is a program of the environment."""
        self.name = name
        self._package = package
        self._words = words
        self._command = command
        self._folder = environments / package

    @property
    def settings(self) -> str:
        return f"{self._package} {self._version()}, {self._words}: `{' '.join(self._command)}`"

    def prepare(self) -> None:
        lock = HERE / "requirements" / f"{self._package}.txt"
        stamp, digest = self._folder / "lock.sha256", hashlib.sha256(lock.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text() == digest:
            return
        venv.create(self._folder, clear=True, with_pip=True)
        options = ("--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes")
        install = [self._python, "-m", "pip", "install", *options, "--requirement", str(lock)]
        subprocess.run(install, check=True)
        stamp.write_text(digest)

    def workers(self, servers: Servers, folder: Path, unique: str) -> AbstractContextManager[object]:
        program, *rest = self._command
        command = [str(self._folder / "bin" / program), *rest]
        stack = ExitStack()
        stack.enter_context(Process(command, self._environ(servers, unique), folder / f"{self._package}.log"))
        return stack

    def fan_out(self, servers: Servers, unique: str, tasks: int, limit: float) -> float:
        command = [self._python, str(APPS / f"{self._package}_app.py"), str(tasks)]
        environ = self._environ(servers, unique) | {"PEER_LIMIT_SECONDS": f"{limit:.0f}"}
        return _driven(command, environ, limit)

    @property
    def _python(self) -> str:
        return str(self._folder / "bin" / "python")

    def _version(self) -> str:
        code = f"from importlib.metadata import version; print(version({self._package!r}))"
        done = subprocess.run([self._python, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def _environ(self, servers: Servers, unique: str) -> dict[str, str]:
        return {
            **os.environ,
            "PEER_REDIS_URL": servers.redis_url,
            "PEER_QUEUE": unique,
            "PYTHONPATH": str(APPS),
            "PYTHONUNBUFFERED": "1",
        }


class Anabranch:
    """Anabranch with one process of each service. All results are stored in Kafka (acks=all) and in Redis."""

    name = "Anabranch"
    _services = ("agency", "taskgroup", "eventmanager")

    def __init__(self, libraries: str) -> None:
        self.settings = f"{libraries}; one process of each service: `anabranch {'`, `'.join(self._services)}`"

    def prepare(self) -> None:
        """Does nothing: Anabranch is installed in the current environment."""

    def workers(self, servers: Servers, folder: Path, unique: str) -> AbstractContextManager[object]:
        environ = self._environ(servers, unique)
        created = subprocess.run(
            _anabranch("topics", "create"), env=environ, capture_output=True, text=True, check=False
        )
        if created.returncode:
            raise Broken(created.stderr)
        stack = ExitStack()
        for service in self._services:
            stack.enter_context(Process(_anabranch(service), environ, folder / f"anabranch-{service}.log"))
        return stack

    def fan_out(self, servers: Servers, unique: str, tasks: int, limit: float) -> float:
        command = _anabranch("bench", "fanout", "--tasks", str(tasks), "--timeout", f"{limit:g}s", "--json")
        environ = self._environ(servers, unique)
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        document = json.loads(done.stdout or "{}")
        if "seconds" in document:
            return float(document["seconds"])
        if any(error["code"] == "timed_out" for error in document.get("errors", ())):
            raise OverLimit
        raise Broken(done.stderr)

    def _environ(self, servers: Servers, unique: str) -> dict[str, str]:
        return {
            **os.environ,
            "ANABRANCH_BROKERS": servers.brokers,
            "ANABRANCH_REDIS_URL": servers.redis_url,
            "ANABRANCH_PREFIX": f"{unique}.",
        }


class Process(AbstractContextManager["Process"]):
    """A program and its child processes, in their own session, with their output in a file."""

    def __init__(self, command: list[str], environ: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command, env=environ, cwd=APPS, stdout=output, stderr=output, start_new_session=True
            )

    def __exit__(self, *_: object) -> None:
        self._popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_SECONDS)
        try:  # remaining child processes, and the program itself if it did not end
            os.killpg(self._popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._popen.wait()


def _driven(command: list[str], environ: Mapping[str, str], limit: float) -> float:
    """Run a client and return the seconds that it prints. It starts to count once it has printed `ready`."""
    popen = subprocess.Popen(
        command, env=environ, cwd=APPS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_pass_on, args=(popen.stdout, lines), daemon=True).start()
    try:
        if _line(popen, lines, START_SECONDS, f"the client was not ready within {START_SECONDS:g} s") != "ready":
            raise Broken("the client did not print `ready`")
        return float(json.loads(_line(popen, lines, limit, ""))["seconds"])
    finally:
        popen.kill()
        popen.communicate()


def _pass_on(stream: IO[str] | Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line.strip())
    lines.put("")


def _line(popen: subprocess.Popen[str], lines: queue.Queue[str], seconds: float, late: str) -> str:
    try:
        line = lines.get(timeout=seconds)
    except queue.Empty:
        raise (Broken(late) if late else OverLimit) from None
    if not line:
        assert popen.stderr is not None
        raise Broken(popen.stderr.read()[-2000:])
    return line


def _anabranch(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "anabranch", *arguments]


def all_systems(environments: Path, libraries: str) -> list[System]:
    """Anabranch and its peers, each with the best reasonable settings of two worker processes."""
    celery = "-A celery_app worker --pool prefork --concurrency 2 --loglevel WARNING"
    quiet = "--without-gossip --without-mingle --without-heartbeat"
    taskiq = "worker taskiq_app:broker --workers 2 --max-async-tasks 100 --log-level WARNING"
    return [
        Anabranch(libraries),
        Peer(
            "Celery",
            "celery",
            "chord, Redis as broker and backend, a prefetch of 64",
            ["celery", *celery.split(), *quiet.split()],
            environments,
        ),
        Peer(
            "Dramatiq",
            "dramatiq",
            "group with results, Redis",
            ["dramatiq", "dramatiq_app", "--processes", "2", "--threads", "4"],
            environments,
        ),
        Peer(
            "Taskiq",
            "taskiq",
            "Redis streams and results, gathered by 500",
            ["taskiq", *taskiq.split()],
            environments,
        ),
    ]
