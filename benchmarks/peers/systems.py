"""The compared systems: how to start the workers of each, and how to measure a case on them.

Each peer has its own virtual environment, from a lock file with hashes; Anabranch uses the current one.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from peers.measures import FANOUT, JOIN_LAG, RUNS, SINGLE, Case, Measure, figures_of, spread_figures
from peers.processes import GRACE_SECONDS, START_SECONDS, Broken, Client, OverLimit, Process, idle_seconds

HERE = Path(__file__).parent
APPS = HERE / "apps"
WARM_UP = Case(SINGLE, 1, 50)
"""Measured on new services of Anabranch before anything counts, while their consumer groups settle."""


@dataclass(frozen=True)
class Servers:
    """Addresses of Kafka and Redis."""

    brokers: str
    redis_url: str


@dataclass(frozen=True)
class Workers:
    """Running workers or services: the servers and the name of their queues, and their process ids."""

    servers: Servers
    unique: str
    pids: tuple[int, ...] = ()


class System(Protocol):
    """A compared system."""

    @property
    def name(self) -> str:
        """Name of the system."""

    @property
    def settings(self) -> str:
        """Versions, how the library was used, and settings of the workers."""

    @property
    def measures(self) -> Sequence[Measure]:
        """The measures that apply to the system."""

    def prepare(self) -> None:
        """Install the system, unless it is installed."""

    def workers(self, servers: Servers, folder: Path, unique: str) -> AbstractContextManager[Workers]:
        """Run workers while the context is open. `unique` separates their queues from those of other runs."""

    def measure(self, workers: Workers, case: Case, limit: float) -> dict[str, float]:
        """Measure a case after a warm-up; returns the figures of the measure. Raises OverLimit, Broken."""


class Peer:
    """A library with an app in apps/ and a lock file in requirements/."""

    measures = (FANOUT, RUNS, SINGLE)

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

    @contextmanager
    def workers(self, servers: Servers, folder: Path, unique: str) -> Iterator[Workers]:
        program, *rest = self._command
        command = [str(self._folder / "bin" / program), *rest]
        with Process(command, self._environ(servers, unique), APPS, folder / f"{self._package}.log") as process:
            yield Workers(servers, unique, (process.pid,))

    def measure(self, workers: Workers, case: Case, limit: float) -> dict[str, float]:
        app = str(APPS / f"{self._package}_app.py")
        command = [self._python, app, case.measure.name, str(case.size), str(case.count)]
        environ = self._environ(workers.servers, workers.unique) | {"PEER_LIMIT_SECONDS": f"{limit:g}"}
        return measured_by_client(command, environ, workers.pids, case, limit)

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


def measured_by_client(
    command: Sequence[str], environ: Mapping[str, str], pids: Sequence[int], case: Case, limit: float
) -> dict[str, float]:
    """Measure a case with a client of apps/driving.py; returns the figures of the measure.

    Args:
        pids: process ids of the workers. The client starts to count once they are idle.

    Raises:
        OverLimit, Broken: the case did not end in time, a client or worker failed, or the outcome was wrong.
    """
    with Client(command, environ, APPS) as client:
        client.await_ready(START_SECONDS + limit)
        before = idle_seconds(pids)
        document = client.measure(limit)
        used = idle_seconds(pids) - before if case.measure is RUNS else 0.0
    durations: list[float] = document["durations"]
    if len(durations) != case.count:
        raise Broken(f"the client measured {len(durations):,} of {case.count:,}")
    return client_figures(case, float(document["seconds"]), durations, used)


def client_figures(case: Case, seconds: float, durations: Sequence[float], used: float) -> dict[str, float]:
    """The figures of the case's measure, from the seconds of everything and of each operation, and the workers'
    processor time `used` in seconds."""
    return figures_of(
        case.measure,
        {
            "seconds": seconds,
            "runs_per_second": case.count / seconds,
            "cpu_ms": used * 1000 / case.count,
            **spread_figures(durations),
        },
    )


class Anabranch:
    """Anabranch with one process of each service. All results are stored in Kafka (acks=all) and in Redis."""

    name = "Anabranch"
    measures = (FANOUT, RUNS, SINGLE, JOIN_LAG)
    _services = ("agency", "taskgroup --agents anabranch.cli.bench.agents", "eventmanager")

    def __init__(self, libraries: str) -> None:
        self.settings = f"{libraries}; one process of each service: `anabranch {'`, `'.join(self._services)}`"

    def prepare(self) -> None:
        """Does nothing: Anabranch is installed in the current environment."""

    @contextmanager
    def workers(self, servers: Servers, folder: Path, unique: str) -> Iterator[Workers]:
        environ = self._environ(servers, unique)
        created = subprocess.run(
            _anabranch("topics", "create"), env=environ, capture_output=True, text=True, check=False
        )
        if created.returncode:
            raise Broken(created.stderr)
        with ExitStack() as stack:
            processes = [
                stack.enter_context(
                    Process(_anabranch(*words), environ, APPS, folder / f"anabranch-{words[0]}.log")
                )
                for words in map(str.split, self._services)
            ]
            workers = Workers(servers, unique, tuple(process.pid for process in processes))
            self.measure(workers, WARM_UP, START_SECONDS)
            yield workers

    def measure(self, workers: Workers, case: Case, limit: float) -> dict[str, float]:
        idle_seconds(workers.pids)
        command = _anabranch("bench", *bench_arguments(case, workers.pids), "--timeout", f"{limit:g}s", "--json")
        environ = self._environ(workers.servers, workers.unique)
        try:
            done = subprocess.run(
                command,
                env=environ,
                capture_output=True,
                text=True,
                check=False,
                timeout=2 * (limit + START_SECONDS + GRACE_SECONDS),
            )
        except subprocess.TimeoutExpired:
            raise OverLimit from None
        return bench_figures(case, json.loads(done.stdout or "{}"), done.stderr, limit)

    def _environ(self, servers: Servers, unique: str) -> dict[str, str]:
        return {
            **os.environ,
            "ANABRANCH_BROKERS": servers.brokers,
            "ANABRANCH_REDIS_URL": servers.redis_url,
            "ANABRANCH_PREFIX": f"{unique}.",
        }


def bench_arguments(case: Case, pids: Sequence[int]) -> list[str]:
    """Arguments of `anabranch bench` that measure a case."""
    size, count = str(case.size), str(case.count)
    return {
        FANOUT.name: ["fanout", "--tasks", size],
        RUNS.name: ["runs", "--at-once", size, "--runs", count, "--cpu", ",".join(map(str, pids))],
        SINGLE.name: ["latency", "--requests", count],
        JOIN_LAG.name: ["join-lag", "--members", size, "--requests", count],
    }[case.measure.name]


def bench_figures(case: Case, document: Mapping[str, Any], errors: str, limit: float) -> dict[str, float]:
    """The figures of the case's measure in the document of `anabranch bench`; `errors` is its standard error.

    Raises:
        OverLimit: a run was not complete in time, or all together took longer.
        Broken: anything else was measured than the case, or nothing.
    """
    if any(error["code"] == "timed_out" for error in document.get("errors", ())):
        raise OverLimit("a run did not end")
    if document.get("errors") or not document:
        raise Broken(errors)
    asked = {FANOUT: ("tasks", case.size), RUNS: ("runs", case.count)}.get(case.measure, ("requests", case.count))
    if document[asked[0]] != asked[1]:
        raise Broken(f"bench measured {document[asked[0]]} {asked[0]} instead of {asked[1]}")
    if document.get("clock", "agents") != "agents":
        raise Broken("no worker has the bench's agent, so the join lag is only an upper bound")
    if document.get("seconds", 0.0) > limit:
        raise OverLimit
    return figures_of(case.measure, document)


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
            "fan-outs as a chord, runs as a chain of groups (chained chords), Redis as broker and backend, a "
            "prefetch of 64",
            ["celery", *celery.split(), *quiet.split()],
            environments,
        ),
        Peer(
            "Dramatiq",
            "dramatiq",
            "fan-outs as a group with results, runs as groups whose completion callback starts the next; Redis",
            ["dramatiq", "dramatiq_app", "--processes", "2", "--threads", "4"],
            environments,
        ),
        Peer(
            "Taskiq",
            "taskiq",
            "Redis streams and results; fan-outs gathered by 500, the groups of runs gathered by the client",
            ["taskiq", *taskiq.split()],
            environments,
        ),
    ]
