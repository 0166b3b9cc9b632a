"""Runs the programs of the systems: workers and services in sessions of their own, and clients that measure."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Any

from anabranch.cli.bench.processor_time import MAX_POLLS, POLL_SECONDS, is_idle, processor_seconds
from anabranch.core.errors import Misconfigured

START_SECONDS = 60.0
STOP_SECONDS = 15.0
GRACE_SECONDS = 10.0
"""Seconds after the limit in which a client may still report how much has ended."""


class OverLimit(Exception):
    """A case exceeded the limit; the message says how much of it has ended, if that is known."""


class Broken(Exception):
    """A worker or a client ended with an error, or with a wrong outcome; the message has its output."""


class Process(AbstractContextManager["Process"]):
    """A program and its child processes, in their own session, with their output in a file."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path) -> None:
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command, env=environ, cwd=folder, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait(self) -> None:
        """Wait until the program has ended by itself."""
        self._popen.wait()

    def __exit__(self, *_: object) -> None:
        self._popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_SECONDS)
        try:  # remaining child processes, and the program itself if it did not end
            os.killpg(self._popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._popen.wait()


class Client(AbstractContextManager["Client"]):
    """A client that prints `ready` after its warm-up, then waits for a line before it measures and prints a JSON
    document."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], folder: Path) -> None:
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            command, env=environ, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._errors: list[str] = []
        threading.Thread(target=_pass_on, args=(self._popen.stdout, self._lines), daemon=True).start()
        self._draining = threading.Thread(target=self._drain_errors, daemon=True)
        self._draining.start()

    def await_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until the client is ready to measure. Raises OverLimit if its warm-up was, Broken."""
        try:
            line = self._line(seconds)
        except queue.Empty:
            raise Broken(f"the client was not ready within {seconds:g} s") from None
        if line != "ready":
            _document(line)
            raise Broken(f"the client printed {line!r} instead of `ready`")

    def measure(self, limit: float) -> dict[str, Any]:
        """Let the client measure; returns its document. Raises OverLimit, Broken."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("go\n")
        self._popen.stdin.flush()
        try:
            return _document(self._line(limit + GRACE_SECONDS))
        except queue.Empty:
            raise OverLimit from None

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait()
        self._draining.join(STOP_SECONDS)
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()

    def _line(self, seconds: float) -> str:
        line = self._lines.get(timeout=seconds)
        if not line:
            self._draining.join(STOP_SECONDS)
            raise Broken("".join(self._errors)[-2000:] or "the client ended without a document")
        return line

    def _drain_errors(self) -> None:
        self._errors.extend(self._popen.stderr or ())


def idle_seconds(pids: Sequence[int]) -> float:
    """Processor time of workers until now in seconds, once they are idle, or after some seconds.

    Raises:
        Broken: a worker has ended.
    """
    if not pids:
        return 0.0
    try:
        now = processor_seconds(pids)
        for _ in range(MAX_POLLS):
            time.sleep(POLL_SECONDS)
            before, now = now, processor_seconds(pids)
            if is_idle(before, now, POLL_SECONDS):
                break
    except Misconfigured as ended:
        raise Broken(f"a worker has ended: {ended}") from ended
    return sum(now.values())


def _document(line: str) -> dict[str, Any]:
    """Parse a line of a client. Raises OverLimit if it reports this, Broken if it is no document."""
    try:
        document: dict[str, Any] = json.loads(line)
    except ValueError:
        raise Broken(f"the client printed {line!r}") from None
    if "ended" in document:
        raise OverLimit(f"{document['ended']} of {document['count']} ended")
    return document


def _pass_on(stream: IO[str] | Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line.strip())
    lines.put("")
