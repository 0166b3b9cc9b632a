"""What a run knows of its keys: each one's first word stands, and wakes whoever waited for it. Pure."""

from __future__ import annotations

from anabranch_taskgroup.session.state import Absent, Run, Value
from anabranch_taskgroup.session.turn import Turn, Unwatch


def set_key(turn: Turn, run: Run, key: str, value: Value | Absent) -> None:
    """A key is known from now on; the first word stands. Its waiters are looked at by `lifecycle.settle`."""
    if key in run.values:
        return
    run.values[key] = value
    if key in run.watched:
        run.watched.discard(key)
        turn.effects.append(Unwatch(run.run_id, run.session_id, key))
    turn.known.append((run, key))


def is_from_outside(run: Run, key: str) -> bool:
    """Whether a task waits for a key as somebody else's, and not as what an earlier run of the session left."""
    return key in run.from_outside
