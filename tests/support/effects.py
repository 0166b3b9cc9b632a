"""What the agents of system tests noted about their calls: who ran when, counted outside the product."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NEVER = float("inf")


@dataclass(frozen=True)
class Effect:
    """One note of a call.

    Attributes:
        key: its idempotency key: the same for each attempt of a member.
        what: ``began``, ``ended`` or ``failed``.
        at: in seconds since the epoch, by the clock of the machine.
    """

    mark: str
    key: str
    pid: int
    what: str
    at: float


def effects(folder: Path, *marks: str) -> list[Effect]:
    """The notes with these marks, in the order in which they were written."""
    path = folder / "effects.jsonl"
    # The last line may be half written.
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [each for each in (Effect(**json.loads(line)) for line in lines) if each.mark in marks]


def begun(folder: Path, *marks: str) -> list[Effect]:
    """The calls with these marks, by the time of their start."""
    return sorted((each for each in effects(folder, *marks) if each.what == "began"), key=lambda each: each.at)


def most_at_once(notes: Sequence[Effect], killed: Mapping[int, float]) -> int:
    """The most calls that ran at the same time; those of a killed process end with it.

    Args:
        killed: by process id, when it was killed.
    """
    ends = {(note.pid, note.key): note.at for note in notes if note.what != "began"}
    changes: list[tuple[float, int]] = []
    for note in notes:
        if note.what == "began":
            changes += [(note.at, 1), (ends.get((note.pid, note.key), killed.get(note.pid, NEVER)), -1)]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most
