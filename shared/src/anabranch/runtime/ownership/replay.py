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

MAX_STARTS = 64
"""Entries of a `DelayedReplayStart` within its lag."""
MAX_TIME_SPREAD = 60.0
"""Seconds between two records whose effects get the same age in a replay."""


@dataclass(frozen=True, slots=True)
class Replay:
    """`start` is the offset to read from (None: the beginning), `committed` the first offset whose effects may be
    missing on the log, `restores` whether the store may lack those of the records before it."""

    start: int | None
    committed: int
    restores: bool


def replay_of(committed: Committed | None, store: str, *, is_intact: bool = True, generation: int = 0) -> Replay:
    """Choose where a replay starts after a commit, from the current identity of the store and whether the store
    has its old data. If not, the whole log is replayed, including runs that have ended.

    A commit of another generation of the log is ignored: an owner may commit once more before it notices that the
    topic was deleted and created again. Then all records are new.
    """
    if committed is None:
        return Replay(None, 0, False)
    try:
        # The metadata are empty if a tool, such as kafka-consumer-groups, has set the offset.
        metadata = orjson.loads(committed.metadata or b"{}")
        if int(metadata.get("generation", 0)) != generation:
            return Replay(0, 0, False)
        if not is_intact:
            return Replay(0, committed.offset, True)
        start = min(int(metadata.get("replay_from", committed.offset)), committed.offset)
        restores = metadata.get("store") != store
        if restores:
            start = min(int(metadata.get("restore_from", start)), start)
        return Replay(start, committed.offset, restores)
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        log.warning("owner cannot parse the commit metadata %r, replaying from offset 0", committed.metadata)
        return Replay(0, committed.offset, True)


def position(
    offset: int,
    replay_from: int,
    store: str,
    generation: int = 0,
    open_from: int | None = None,
    restore_from: int | None = None,
) -> Committed:
    """Build a commit for `replay_of` to read.

    Args:
        open_from: the lowest pin of the open runs; it is omitted unless it is after `replay_from`.
        restore_from: offset from which effects are repeated if the store is another one; omitted unless it is
            before `replay_from`.
    """
    metadata: dict[str, Any] = {"replay_from": replay_from, "store": store}
    if generation:
        metadata["generation"] = generation
    if open_from is not None and open_from > replay_from:
        metadata["open_from"] = open_from
    if restore_from is not None and restore_from < replay_from:
        metadata["restore_from"] = restore_from
    return Committed(offset, orjson.dumps(metadata).decode())


def open_from(committed: Committed | None) -> int:
    """The lowest pin of the runs that were open at a commit: a run with a lower pin had ended. 0 if the commit has
    none."""
    return _committed_offset(committed, "open_from", _committed_offset(committed, "replay_from", 0))


def restore_from(committed: Committed | None) -> int:
    """The offset from which effects are repeated after this commit if the store is another one."""
    return _committed_offset(committed, "restore_from", replay_begin(committed))


def replay_begin(committed: Committed | None) -> int:
    """The offset at which a replay after this commit starts, with the store as it was."""
    offset = committed.offset if committed is not None else 0
    return min(_committed_offset(committed, "replay_from", offset), offset)


def _committed_offset(committed: Committed | None, name: str, default: int) -> int:
    """An offset in the metadata of a commit. `default` if it has none, 0 if it cannot be parsed."""
    try:
        metadata = orjson.loads(committed.metadata or b"{}") if committed is not None else {}
        return int(metadata.get(name, default))
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return 0


def rewind_to_mark(replay: Replay, begin: int | None) -> Replay:
    """Start the replay no later than `begin`, the position in the store's mark, because the store may have been
    restored from a snapshot as old as the mark. None (the mark has no position yet) replays the whole log."""
    if not replay.restores or replay.start is None:
        return replay
    return replace(replay, start=min(replay.start, begin or 0))


def committed_generation(committed: Committed | None) -> int:
    """The generation of the log in which a commit was made; 0 if the commit has none."""
    try:
        return int(orjson.loads(committed.metadata or b"{}").get("generation", 0)) if committed is not None else 0
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return 0


def discard_stale_commit(committed: Committed | None, generation: int, epoch: int) -> Committed | None:
    """The commit, or None if it is of another generation of the log: an owner that has not noticed that the topic
    was created again may still commit its old position. A commit after the claim at offset `epoch` is discarded
    too: the log has lost its last records."""
    if committed is None or (committed.offset <= epoch and committed_generation(committed) == generation):
        return committed
    log.error(
        "owner ignores the commit of offset %d in generation %d of the log: the log has generation %d "
        "and %d records; replaying it from its beginning",
        committed.offset,
        committed_generation(committed),
        generation,
        epoch,
    )
    return None


@dataclass(slots=True)
class DelayedReplayStart:
    """Delays the start of the replay by `lag` seconds: commits get the position that was valid then.

    After a failure, the owner of another topic may publish its records of the loss window again. A run that ended
    within that window must still be known as ended, so a replay includes runs for some time after they have ended.
    """

    lag: float
    _starts: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, offset: int, now: float) -> int:
        """Record the present start of a replay; returns the delayed one, which is never later."""
        # Entries nearer than a fraction of the lag are merged: that can only delay a position by more.
        if not self._starts or now - self._starts[-1][0] >= self.lag / MAX_STARTS or offset < self._starts[-1][1]:
            self._starts.append((now, offset))
        # The newest entry that is at least `lag` old stays, because it was the valid position `lag` seconds ago.
        while len(self._starts) > 1 and self._starts[1][0] <= now - self.lag:
            self._starts.popleft()
        return min(start for _, start in self._starts)


def split_batch(batch: Sequence[Incoming], committed: int, epoch: int) -> list[Sequence[Incoming]]:
    """Split a batch before the committed offset and after the claim; `epoch` is -1 once the claim was read.

    The parts are handled differently: effects of records before the commit are on the log already, and the owner
    completes its takeover after the claim.
    """
    cuts = [committed, *([epoch + 1] if epoch >= 0 else [])]
    parts: list[Sequence[Incoming]] = [batch] if batch else []
    for cut in cuts:
        parts = [piece for part in parts for piece in _cut(part, cut)]
    return parts


def _cut(part: Sequence[Incoming], cut: int) -> Iterable[Sequence[Incoming]]:
    at = next((i for i, record in enumerate(part) if record.offset >= cut), len(part))
    return [piece for piece in (part[:at], part[at:]) if piece]


def group_by_time(records: Sequence[Incoming]) -> Iterable[Sequence[Incoming]]:
    """Split records into consecutive groups whose timestamps are within MAX_TIME_SPREAD of the group's first."""
    begin = 0
    for at, record in enumerate(records):
        if abs(record.timestamp - records[begin].timestamp) > MAX_TIME_SPREAD:
            yield records[begin:at]
            begin = at
    if records:
        yield records[begin:]


def aged(effects: Iterable[Any], age: float) -> list[Effect]:
    """Reduce the `ttl` of replayed store effects by `age`: that of the first record in a group of `group_by_time`.
    Omits writes that expire within MAX_TIME_SPREAD, but a StorePut only if the last one of its key has expired.

    Other records of the group are up to MAX_TIME_SPREAD younger, so a StorePut that seems to have expired may be
    valid. Without it, an earlier write of its key would be the last one: the record of an ended run without its
    end.
    """
    left = [replace(each, ttl=each.ttl - max(age, 0.0)) for each in effects]
    last = {each.key: each.ttl for each in left if isinstance(each, StorePut)}

    def is_omitted(each: Any) -> bool:
        if isinstance(each, StorePut):
            return last[each.key] <= -MAX_TIME_SPREAD
        return not isinstance(each, Expire) and each.ttl <= MAX_TIME_SPREAD

    kept = [each for each in left if not is_omitted(each)]
    return [replace(each, ttl=max(each.ttl, 1.0)) for each in kept]


def by_scope(
    writes: Sequence[StorePut | AppendHistory],
) -> list[tuple[str | None, list[Write | HistoryEntry]]]:
    """Group writes by their fence's scope (None: not fenced), in order. The last write of a key wins."""
    scopes: dict[str | None, dict[tuple[str, int], Write | HistoryEntry]] = {}
    for each in writes:
        if isinstance(each, AppendHistory):
            entry = HistoryEntry(each.key, each.position, each.value, each.ttl, each.keep)
            scopes.setdefault(each.scope, {})[each.key, each.position] = entry
        else:
            scope = each.scope if each.fenced else None
            # Entries of a history have positions from 0, so -1 cannot be one of them.
            scopes.setdefault(scope, {})[each.key, -1] = Write(each.key, each.value, each.ttl)
    return [(scope, list(found.values())) for scope, found in scopes.items()]
