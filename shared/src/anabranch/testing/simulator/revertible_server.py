"""A store in memory that can revert to an earlier state, as a server that restarts from an old snapshot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anabranch.adapters.memory.server import MemoryServer
from anabranch.ports import Clock, Fence, HistoryEntry, Write

LOST_SECOND = 1.0


class RevertibleServer(MemoryServer):
    """A store that can revert to its state of up to `keeps` seconds ago, and reports accepted writes.

    Each write first appends the old value of its key to an undo log. Reverting applies the undo log backwards.
    """

    def __init__(
        self,
        clock: Clock,
        accepted: Callable[[Sequence[Write | HistoryEntry], Fence | None], None],
        keeps: float = LOST_SECOND,
    ) -> None:
        super().__init__(clock)
        self._accepted = accepted
        self._keeps = keeps
        self._emptied_at = 0.0
        self._undo: deque[tuple[float, str, Any, float | None]] = deque()

    def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None) -> None:
        """See MemoryServer."""
        super().put(writes, fence)
        self._accepted(writes, fence)

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """See MemoryServer."""
        self._note(key)
        super().set(key, value, ttl)

    def add_entries(self, key: str, entries: Sequence[HistoryEntry]) -> None:
        """See MemoryServer."""
        self._note(key)
        super().add_entries(key, entries)

    def expire(self, key: str, ttl: float) -> None:
        """See MemoryServer."""
        self._note(key)
        super().expire(key, ttl)

    def delete(self, key: str) -> bool:
        """See MemoryServer."""
        self._note(key)
        return super().delete(key)

    def index(self, key: str) -> dict[str, float]:
        """See MemoryServer. Returns a copy, so that a change of it does not change the value in the undo log."""
        return dict(super().index(key))

    def set_index(self, key: str, members: dict[str, float], ttl: float | None = None) -> None:
        """See MemoryServer."""
        self._note(key)
        super().set_index(key, members, ttl)

    def restart(self, *, keep: bool = False) -> None:
        """See MemoryServer. Emptying is in the undo log, too: otherwise reverting would mix two states."""
        if not keep:
            self._emptied_at = self._clock.now()
        for key in () if keep else list(self._values):
            self._note(key)
        super().restart(keep=keep)

    def restart_older(self, seconds: float = LOST_SECOND, is_lost: Callable[[str], bool] | None = None) -> None:
        """Restart as a new server with the state of `seconds` ago: of all keys, or of those for which `is_lost`
        holds.

        With `is_lost`, the state is never older than the last emptying of the store: the marks among the other
        keys would vouch for data that is gone.
        """
        horizon = self._clock.now() - seconds
        if is_lost is not None:
            horizon = max(horizon, self._emptied_at)
        kept: list[tuple[float, str, Any, float | None]] = []
        while self._undo and self._undo[-1][0] > horizon:
            at, key, value, expires = self._undo.pop()
            if is_lost is not None and not is_lost(key):
                # The undo log stays complete for keys that are not reverted, because a later restart may revert
                # them.
                kept.append((at, key, value, expires))
                continue
            self._values.pop(key, None)
            self._expiry.cancel(key)
            if value is not None and expires is not None:
                self._values[key] = value
                self._expiry.schedule(key, expires)
        self._undo.extend(reversed(kept))
        self.restart(keep=True)

    def keys(self) -> Mapping[str, float]:
        """The expiry of every key that has not expired, in seconds since the epoch."""
        now = self._clock.now()
        return {key: expires for key in self._expiry if (expires := self._expiry.due_at(key) or 0.0) > now}

    def _note(self, key: str) -> None:
        now = self._clock.now()
        self._undo.append((now, key, self._values.get(key), self._expiry.due_at(key)))
        while self._undo[0][0] < now - self._keeps:
            self._undo.popleft()
