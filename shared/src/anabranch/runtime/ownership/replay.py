"""Chooses the records that a new owner replays, from the last owner's commit. Pure.

A commit holds the last owner's offset, the offset from which the state has to be rebuilt, and the identity of the
store that has the effects of all records before. A store with another identity may lack them: they are repeated.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from anabranch.ports import Committed, HistoryEntry, Incoming, Write
from anabranch.runtime.ownership.effects import AppendHistory, Effect, Expire, StorePut

log = logging.getLogger(__name__)

SAME_TIME = 60.0
"""Seconds between records whose effects are taken to be equally old."""


@dataclass(frozen=True, slots=True)
class Replay:
    """`start` is the offset to read from (None: the beginning), `committed` the first offset whose effects may be
    missing on the log, `restores` whether the store may lack those of the records before it."""

    start: int | None
    committed: int
    restores: bool


def replay_of(committed: Committed | None, store: str, *, kept: bool = True, generation: int = 0) -> Replay:
    """Choose where a replay starts after a commit, from the current identity of the store and whether the store
    kept its old data. If not, the whole log is replayed, including runs that have ended.

    A commit of another generation of the log is ignored: an owner may commit once more before it notices that the
    topic was deleted and created again. Then all records are new.
    """
    if committed is None:
        return Replay(None, 0, False)
    try:
        noted = orjson.loads(committed.metadata or b"{}")
        if int(noted.get("generation", 0)) != generation:
            return Replay(0, 0, False)
        if not kept:
            return Replay(0, committed.offset, True)
        start = min(int(noted.get("replay_from", committed.offset)), committed.offset)
        return Replay(start, committed.offset, noted.get("store") != store)
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        log.warning("the commit's metadata %r is not this version's: reading from 0", committed.metadata)
        return Replay(0, committed.offset, True)


def position(
    offset: int, replay_from: int, store: str, generation: int = 0, open_from: int | None = None
) -> Committed:
    """A commit that `replay_of` understands. `open_from` is the offset of the record that opened the oldest open
    run, where that is after `replay_from`."""
    noted: dict[str, Any] = {"replay_from": replay_from, "store": store}
    if generation:
        noted["generation"] = generation
    if open_from is not None and open_from > replay_from:
        noted["open_from"] = open_from
    return Committed(offset, orjson.dumps(noted).decode())


def open_from(committed: Committed | None) -> int:
    """The offset from which on records opened the runs that were open at a commit: runs that were opened before it
    had ended by then. 0 if the commit does not tell."""
    try:
        noted = orjson.loads(committed.metadata or b"{}") if committed is not None else {}
        return int(noted.get("open_from", noted.get("replay_from", 0)))
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return 0


def replay_begin(committed: Committed | None) -> int:
    """The replay position of a commit."""
    return replay_of(committed, "", generation=generation_noted(committed)).start or 0


def as_old_as(replay: Replay, begin: int | None) -> Replay:
    """A replay for a store that may have been restored to the age of its mark, whose replay position is `begin`.
    None means that the mark is older than its first position: all that the log has is written again."""
    if not replay.restores or replay.start is None:
        return replay
    return replace(replay, start=min(replay.start, begin or 0))


def generation_noted(committed: Committed | None) -> int:
    """The generation of the log in which a commit was made; 0 if the commit has none."""
    try:
        return int(orjson.loads(committed.metadata or b"{}").get("generation", 0)) if committed is not None else 0
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return 0


def of_this_log(committed: Committed | None, generation: int, epoch: int) -> Committed | None:
    """The commit, or None if it is of another generation of the log: an owner that has not noticed that the topic
    was created again may still commit its old position. A commit after the claim at offset `epoch` is invalid too:
    the log has lost its end."""
    if committed is None or (committed.offset <= epoch and generation_noted(committed) == generation):
        return committed
    log.error(
        "offset %d is committed, of generation %d of the log, but the log is of generation %d and has %d records: "
        "reading it from its beginning",
        committed.offset,
        generation_noted(committed),
        generation,
        epoch,
    )
    return None


@dataclass(slots=True)
class ReplayFrom:
    """Where to rebuild from, as it was `lag` seconds ago.

    Another topic's owner may tell again what it did within the loss window; what ended within it has to be known
    as ended then, so it is rebuilt a little longer than it is open.
    """

    lag: float
    _noted: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, offset: int, now: float) -> int:
        """Note where one would rebuild from `now`; returns where to rebuild from, which is no later."""
        self._noted.append((now, offset))
        while len(self._noted) > 1 and self._noted[1][0] <= now - self.lag:
            self._noted.popleft()
        return min(noted for _, noted in self._noted)


def split_batch(batch: Sequence[Incoming], committed: int, epoch: int) -> list[Sequence[Incoming]]:
    """A batch cut at the committed offset and after the claim (`epoch` -1: the claim is behind)."""
    cuts = [committed, *([epoch + 1] if epoch >= 0 else [])]
    parts: list[Sequence[Incoming]] = [batch] if batch else []
    for cut in cuts:
        parts = [piece for part in parts for piece in _cut(part, cut)]
    return parts


def _cut(part: Sequence[Incoming], cut: int) -> Iterable[Sequence[Incoming]]:
    at = next((i for i, record in enumerate(part) if record.offset >= cut), len(part))
    return [piece for piece in (part[:at], part[at:]) if piece]


def of_one_time(records: Sequence[Incoming]) -> Iterable[Sequence[Incoming]]:
    """Records cut where the time of one is far from that of the first before it."""
    begin = 0
    for at, record in enumerate(records):
        if abs(record.timestamp - records[begin].timestamp) > SAME_TIME:
            yield records[begin:at]
            begin = at
    if records:
        yield records[begin:]


def aged(effects: Iterable[Any], age: float) -> list[Effect]:
    """What to do now of effects on the store (each has a `ttl`) that were due `age` seconds ago: what would have
    expired by now, or is about to, is not written."""
    left = [replace(each, ttl=each.ttl - max(age, 0.0)) for each in effects]
    return [
        replace(each, ttl=max(each.ttl, 1.0)) if isinstance(each, Expire) else each
        for each in left
        if isinstance(each, Expire) or each.ttl > SAME_TIME
    ]


def by_scope(
    writes: Sequence[StorePut | AppendHistory],
) -> Iterable[tuple[str | None, list[Write | HistoryEntry]]]:
    """Writes of each fence in order, None for those without; of a key written twice the last write counts."""
    scopes: dict[str | None, dict[tuple[str, int], Write | HistoryEntry]] = {}
    for each in writes:
        if isinstance(each, AppendHistory):
            scopes.setdefault(each.scope, {})[each.key, each.position] = each.entry()
        else:
            scope = each.scope if each.fenced else None
            scopes.setdefault(scope, {})[each.key, -1] = Write(each.key, each.value, each.ttl)
    return ((scope, list(found.values())) for scope, found in scopes.items())
