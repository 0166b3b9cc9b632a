"""Sets a key's value for a run: the first write wins and releases the steps that depend on the key. Pure."""

from __future__ import annotations

from anabranch_taskgroup.session.state import Absent, Run, Value
from anabranch_taskgroup.session.turn import Turn, Unwatch


def set_key(turn: Turn, run: Run, key: str, value: Value | Absent) -> None:
    """Set a key to a value or to absence, unless it is set. `lifecycle.settle` then checks the steps that wait for
    it."""
    if key in run.values:
        return
    run.values[key] = value
    if key in run.watched:
        run.watched.discard(key)
        turn.effects.append(Unwatch(run.run_id, run.session_id, key))
    turn.known.append((run, key))


def is_from_outside(run: Run, key: str) -> bool:
    """True if a task declares the key as an external dependency; False if only an earlier run of the session sets
    it."""
    return key in run.from_outside
