"""Background processes of the cluster, each with a pid file: started once, stopped by their id, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from one_node.commands import await_until, inside
from one_node.layout import ClusterError, Layout

LOG_CHARACTERS = 2000


class Process:
    """A program in the cluster's network namespace that goes on when this process ends."""

    def __init__(
        self,
        cluster: Layout,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment`: None for this process's."""
        self.name = name
        self._environment = environment
        self._cluster = cluster
        self._command = command
        self._pid_file = cluster.folder / "pids" / name
        self.log = cluster.folder / "logs" / f"{name}.log"

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.running():
            return
        for folder in (self._pid_file.parent, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                inside(self._cluster, *self._command),
                cwd=self._cluster.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pid_file.write_text(f"{child.pid} {_started_at(child.pid)}")

    def running(self) -> bool:
        """True while the process that `start` started runs: its id may be another's after its end."""
        return self._pid() is not None

    def stop(self, seconds: float = 15) -> None:
        """Stop it, at the deadline by SIGKILL; does nothing if it does not run."""
        pid = self._pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            try:
                await_until(f"{self.name} has ended", lambda: not self.running(), seconds)
            except ClusterError:
                os.kill(pid, signal.SIGKILL)
                await_until(f"{self.name} was killed", lambda: not self.running(), seconds)
        self._pid_file.unlink(missing_ok=True)

    def log_tail(self) -> str:
        """The end of its log, for an error message."""
        return self.log.read_text(errors="replace")[-LOG_CHARACTERS:] if self.log.exists() else ""

    def _pid(self) -> int | None:
        try:
            pid, started_at = self._pid_file.read_text().split()
        except FileNotFoundError:
            return None
        return int(pid) if _started_at(int(pid)) == started_at else None


def _started_at(pid: int) -> str | None:
    """When the process started, in ticks since the machine's start; None for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return None if fields[0] == "Z" else fields[19]
