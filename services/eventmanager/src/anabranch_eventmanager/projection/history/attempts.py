"""Attempts in the history: which are kept, and the sums of all. Pure.

The state of a task has its open attempts as spans, so that members that start together are one of them. Members
that also end together are a chunk that a worker ran one after the other: each counts the same share of its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from anabranch.core.wire.events import EventEntry
from anabranch.core.wire.usage import usage_at
from anabranch.ports.history import Row

State = dict[str, Any]

MAX_ATTEMPTS = 1_000
"""Maximum attempts of one task that are kept; the sums have all."""
MAX_OPEN = 5_000
"""Maximum spans of open attempts of one task whose start is known."""
SAMPLES = 100
"""About how many members of a task are kept as a sample."""
SLOW_TIMES = 3.0
SLOW_SECONDS = 1.0
"""An attempt is slow if it took this long, and SLOW_TIMES the mean of those before."""
SLOW_AFTER = 10
"""Attempts that have to have ended before one counts as slow."""

_WHOLE = ((-1, 0),)
"""The attempts of an ordinary task, as the span of a member."""
_STATUSES = {"completed": "completed", "failed": "failed", "retrying": "failed", "cancelled": "cancelled"}


class _Part(NamedTuple):
    """Attempts that end together. `opened` is the record of their start; None if it is not known."""

    first: int
    last: int
    place: int
    """Place of the first among the members of the event."""
    opened: list[Any] | None
    seconds: float | None
    """Duration of each."""


def new_state() -> State:
    """The state of a task without attempts."""
    return {"open": [], "ended": 0, "failed": 0, "timed": 0, "seconds": 0.0, "kept": 0, "agent": None}


def apply_attempt(state: State, run_id: str, members: int | None, action: str, entry: EventEntry) -> Iterator[Row]:
    """Apply an event of a task to its state; the rows of the attempts that ended with it and are kept.

    Args:
        members: how many the task has, if that is known.
    """
    if action == "started":
        state["agent"] = entry.data.get("agent") or state["agent"]
        started = entry.attempt or 1, entry.time, entry.data.get("worker"), list(entry.iteration)
        room = MAX_OPEN - len(state["open"])
        state["open"].extend([start, stop, *started] for start, stop in _spans(entry)[:room])
    elif action in _STATUSES and entry.attempt:
        for part in list(_parts(state, entry)):
            yield from _end(state, run_id, members, _STATUSES[action], entry, part)


def _end(
    state: State, run_id: str, members: int | None, status: str, entry: EventEntry, part: _Part
) -> Iterator[Row]:
    is_slow, every = _is_slow(state, part.seconds), max(1, (members or 1) // SAMPLES)
    for index in range(part.first, part.last):
        reason = _reason(index, status, is_slow, every)
        if reason is not None and state["kept"] < MAX_ATTEMPTS:
            state["kept"] += 1
            yield _row(state, run_id, status, entry, part, index) | {"kept_because": reason}
    count = part.last - part.first
    state["ended"] += count
    state["failed"] += count if status == "failed" else 0
    if part.seconds is not None:
        state["timed"] += count
        state["seconds"] += part.seconds * count


def _spans(entry: EventEntry) -> Sequence[tuple[int, int]]:
    """The members of an event; `_WHOLE` for one that names none."""
    if entry.spans is not None:
        return entry.spans
    return _WHOLE if entry.index is None else ((entry.index, entry.index + 1),)


def _parts(state: State, entry: EventEntry) -> Iterator[_Part]:
    place = 0
    for start, stop in _spans(entry):
        for first, last, opened in _opened(state, start, stop, entry):
            seconds = None if opened is None else max(0.0, entry.time - opened[3]) / (last - first)
            yield _Part(first, last, place + first - start, opened, seconds)
        place += stop - start


def _opened(state: State, start: int, stop: int, entry: EventEntry) -> Iterator[tuple[int, int, list[Any] | None]]:
    """The parts of a span, each with the open attempt that ends with it, which is removed; in order."""
    kept, found, iteration = [], [], list(entry.iteration)
    if len(state["open"]) == 1 and state["open"][0][:2] == [start, stop] and state["open"][0][5] == iteration:
        yield start, stop, state["open"].pop()  # an ordinary task, most often
        return
    for each in state["open"]:
        first, last = max(start, each[0]), min(stop, each[1])
        if first >= last or each[5] != iteration or each[2] > (entry.attempt or 1):
            kept.append(each)
            continue
        found.append((first, last, each))
        if each[0] < first:
            kept.append([each[0], first, *each[2:]])
        if last < each[1]:  # these have begun now: their worker ran the others before
            kept.append([last, each[1], each[2], max(each[3], entry.time), *each[4:]])
    state["open"] = kept
    at = start
    for first, last, each in sorted(found, key=lambda part: part[:2]):
        if at < first:
            yield at, first, None
        if max(at, first) < last:
            yield max(at, first), last, each
        at = max(at, last)
    if at < stop:
        yield at, stop, None


def _is_slow(state: State, seconds: float | None) -> bool:
    if seconds is None or seconds < SLOW_SECONDS or state["timed"] < SLOW_AFTER:
        return False
    return bool(seconds >= SLOW_TIMES * state["seconds"] / state["timed"])


def _reason(index: int, status: str, is_slow: bool, every: int) -> str | None:
    if index < 0:
        return "task"
    if status == "failed":
        return "failed"
    if is_slow:
        return "slow"
    return "sample" if index % every == 0 else None


def _row(state: State, run_id: str, status: str, entry: EventEntry, part: _Part, index: int) -> Row:
    place, data = index - part.first, entry.data
    used = usage_at(data, part.place + place)
    started, ended = None, entry.time
    if part.opened is not None and part.seconds is not None:
        started = part.opened[3] + place * part.seconds
        ended = entry.time if index == part.last - 1 else started + part.seconds
    return {
        "run_id": run_id,
        "group": entry.group,
        "task": entry.task,
        "iteration": ".".join(map(str, entry.iteration)),
        "index": index,
        "attempt": entry.attempt or 1,
        "status": status,
        "agent": state["agent"],
        "worker": part.opened[4] if part.opened else None,
        "started_at": started,
        "ended_at": ended,
        "error_type": data.get("error_type"),
        "message": data.get("message"),
        "cpu_seconds": used.get("cpu_seconds"),
        "peak_memory_bytes": used.get("peak_memory_bytes"),
        "usd": data.get("usd"),
        "tokens": data.get("tokens"),
    }
