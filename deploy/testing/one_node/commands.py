"""Runs commands of the machine, and reports one that failed with its output."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from one_node.layout import ClusterError, Layout


def run(
    *command: str | Path,
    given: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float = 300,
) -> str:
    """Return the standard output of a command. Raises ClusterError with its output if it fails."""
    done = _execute(command, given=given, environment=environment, folder=folder, timeout=timeout)
    if done.returncode != 0:
        shown = " ".join(map(str, command))
        raise ClusterError(f"`{shown}` ended with code {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def succeeds(*command: str | Path, timeout: float = 60) -> bool:
    """True if the command ends with code 0."""
    return _execute(command, given=None, environment=None, folder=None, timeout=timeout).returncode == 0


def _execute(
    command: tuple[str | Path, ...],
    *,
    given: str | None,
    environment: Mapping[str, str] | None,
    folder: Path | None,
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        # An empty input rather than this process's: no command may wait for a terminal.
        input=given or "",
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def write_changed(path: Path, text: str) -> None:
    """Write a configuration, unless the file has it already: its reader may watch the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def inside(cluster: Layout, *command: str | Path) -> list[str]:
    """The command in the cluster's network namespace.

    `ip netns exec` would also mount /sys again, which hides the cgroups from the kubelet.
    """
    return ["nsenter", f"--net={cluster.namespace_file}", "--", *map(str, command)]


def await_until(what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Poll `ready` until it is true. Raises ClusterError at the deadline, which says `what` was missing."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise ClusterError(f"{what}: not so after {seconds:g} s")
        time.sleep(0.1)
