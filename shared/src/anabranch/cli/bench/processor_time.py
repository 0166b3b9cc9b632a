"""Processor time of processes of this machine and of all their children, from Linux's /proc.

The kernel counts in ticks of 10 ms for each process, so measure at least some seconds of work.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anabranch.core.errors import Misconfigured

PROC = Path("/proc")
OPTION = "--cpu"
POLL_SECONDS = 0.5
MAX_POLLS = 20
"""Maximum number of waits for idle processes; the measurement continues afterwards in any case."""
ENDED_STATES = ("Z", "X")
IDLE_SHARE = 0.1
"""Processes that together use less than this share of a core count as idle."""


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """A process.

    Attributes:
        seconds: its processor time, and that of its children that have ended and were reaped.
        ended: it has ended, but its parent has yet to reap it.
    """

    pid: int
    parent: int
    seconds: float
    ended: bool = False


def parse_stat(text: str, tick: float) -> ProcessStat:
    """Parse /proc/PID/stat; `tick` is the duration of a tick in seconds."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(")")[2].split()  # the program's name before it may have spaces and brackets
    seconds = sum(map(int, fields[11:15])) * tick
    return ProcessStat(int(pid), int(fields[1]), seconds, fields[0] in ENDED_STATES)


def tree_seconds(roots: Sequence[int], stats: Iterable[ProcessStat]) -> dict[int, float]:
    """For each root, the processor time of the process and all its descendants, in seconds.

    Raises:
        KeyError: no process has the id of a root, or it has ended.
    """
    by_pid = {stat.pid: stat for stat in stats if not (stat.ended and stat.pid in roots)}
    totals = {root: by_pid[root].seconds for root in roots}
    for stat in by_pid.values():
        parent = by_pid.get(stat.parent) if stat.pid not in totals else None
        while parent is not None and parent.pid not in totals:
            parent = by_pid.get(parent.parent)
        if parent is not None:
            totals[parent.pid] += stat.seconds
    return totals


def is_idle(before: Mapping[int, float], after: Mapping[int, float], seconds: float) -> bool:
    """True if the processes used little processor time between two readings that are `seconds` apart."""
    return sum(after.values()) - sum(before.values()) < IDLE_SHARE * seconds


def processor_seconds(pids: Sequence[int], proc: Path = PROC) -> dict[int, float]:
    """Processor time of local processes until now, each with its descendants, in seconds.

    Raises:
        Misconfigured: a process does not run on this machine, or the machine has no /proc.
    """
    stats = [stat for name in _numbered(proc) if (stat := _read_stat(proc / name / "stat")) is not None]
    try:
        return tree_seconds(pids, stats)
    except KeyError as missing:
        reason = f"there is no process {missing} on this machine"
        if not stats:
            reason = f"this machine has no {proc}, where Linux reports processor time"
        raise Misconfigured(OPTION, reason, "name the processes of services that run here") from None


async def idle_processor_seconds(pids: Sequence[int]) -> dict[int, float]:
    """As `processor_seconds`, once the processes are idle, or after MAX_POLLS waits."""
    now = processor_seconds(pids)
    for _ in range(MAX_POLLS):
        await asyncio.sleep(POLL_SECONDS)
        before, now = now, processor_seconds(pids)
        if is_idle(before, now, POLL_SECONDS):
            break
    return now


def names_of(pids: Sequence[int], proc: Path = PROC) -> dict[int, str]:
    """Names of processes: the service of an `anabranch` command, else the program."""
    return {pid: process_name((proc / str(pid) / "cmdline").read_bytes().decode(errors="replace")) for pid in pids}


def process_name(command_line: str) -> str:
    """The name in a command line whose words end with NUL: `agency` in `python -m anabranch agency`."""
    words = [Path(word).name for word in command_line.rstrip("\0").split("\0")]
    if "anabranch" in words[:-1]:
        return words[words.index("anabranch") + 1]
    return words[0]


def _numbered(proc: Path) -> list[str]:
    return [name for name in os.listdir(proc) if name.isdigit()] if proc.is_dir() else []


def _read_stat(path: Path) -> ProcessStat | None:
    try:
        return parse_stat(path.read_text(errors="replace"), 1 / os.sysconf("SC_CLK_TCK"))
    except (FileNotFoundError, ProcessLookupError):  # the process has ended since the listing
        return None
