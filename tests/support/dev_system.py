"""A complete system with its gateway, as `anabranch dev` runs it, for tests over HTTP or with a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
_SERVED = re.compile(r"Dashboard and API: (\S+)")


class DevSystem:
    """The running system. `url` ends with a slash; `output` has its lines so far."""

    def __init__(self, url: str, output: list[str], process: subprocess.Popen[str]) -> None:
        self.url = url
        self.output = output
        self.process = process

    def get(self, path: str) -> Any:
        """Return the JSON response of `path` (without its leading slash)."""
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return json.load(response)

    def post(self, path: str, document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """Post JSON, and return the JSON response."""
        body = json.dumps(document).encode()
        request = urllib.request.Request(
            self.url + path, body, {"content-type": "application/json", **(headers or {})}
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)

    def submit(self, request: Mapping[str, Any], *, wait: int = 0) -> str:
        """Submit a request, with `wait` until its end; returns its run id."""
        headers = {"prefer": f"wait={wait}"} if wait else {}
        return str(self.post("v1/runs", request, headers)["run_id"])


@contextmanager
def dev_system(
    agents: str, environ: Mapping[str, str] | None = None, options: Sequence[str] = ("--port", "0")
) -> Iterator[DevSystem]:
    """Run `anabranch dev` as a separate process, on a free port, with these agents."""
    paths = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", "anabranch", "dev", "--agents", agents, *options],
        env={**os.environ, "PYTHONPATH": paths, **(environ or {})},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output: list[str] = []
        yield DevSystem(_address(process, output), output, process)
    finally:
        process.terminate()
        process.wait(30)
        for stream in (process.stdin, process.stderr):
            if stream is not None:
                stream.close()


def _address(process: subprocess.Popen[str], output: list[str]) -> str:
    """The URL of the system. Later output is read in the background, so that a full pipe never blocks the
    process."""
    assert process.stderr is not None
    for line in process.stderr:
        output.append(line)
        if found := _SERVED.search(line):
            threading.Thread(target=_drain, args=(process, output), daemon=True).start()
            return found[1]
    raise RuntimeError(f"anabranch dev ended: {''.join(output)}")


def _drain(process: subprocess.Popen[str], output: list[str]) -> None:
    try:
        for line in process.stderr or ():
            output.append(line)
    except ValueError:  # closed at the end
        return
