"""The server of the store and the notifier in memory: keys with a time to live, indexes, channels.

Clients share one server, as they would share Redis. It is bound to one event loop; its methods are synchronous and
therefore atomic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anabranch.core.due import DueQueue
from anabranch.core.errors import Fenced, ServerUnavailable, StoreRefused
from anabranch.core.json_documents import fitted
from anabranch.ports import Clock, Fence, History, HistoryEntry, Write

Callback = Callable[[bytes | None], None]
_Index = dict[str, float]


@dataclass(frozen=True, slots=True)
class _Entries:
    """A history: values by position, the number of dropped values, and the highest dropped position. Immutable,
    because the store of a simulation keeps earlier versions."""

    dropped: int
    through: int
    found: dict[int, bytes]

    def with_entries(self, entries: Sequence[HistoryEntry]) -> _Entries:
        added = {each.position: fitted(each.value) for each in entries if each.position > self.through}
        found = self.found | added
        order = sorted(found)
        over = order[: max(0, len(order) - entries[-1].keep)]
        kept = {position: found[position] for position in order[len(over) :]}
        return _Entries(self.dropped + len(over), over[-1] if over else self.through, kept)


class MemoryServer:
    """Keys, indexes and channels of one process; expiry follows `clock`.

    `down` makes every call raise ServerUnavailable, `refusing` makes each write raise StoreRefused, for tests of a
    system without its store.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._values: dict[str, bytes | _Index | _Entries] = {}
        self._expiry: DueQueue[str] = DueQueue()
        self._incarnation = 1
        self.channels: dict[str, list[Callback]] = {}
        self.down = False
        self.refusing = False

    @property
    def identity(self) -> str:
        """See `ports.StateStore.identity`."""
        return f"memory-{self._incarnation}"

    def restart(self, *, keep: bool = False) -> None:
        """Restart with a new identity, empty unless `keep`; subscribers get None as after a reconnect."""
        self._incarnation += 1
        if not keep:
            self._values.clear()
            self._expiry = DueQueue()
        for callbacks in list(self.channels.values()):
            for callback in list(callbacks):
                callback(None)

    def get(self, key: str) -> bytes | None:
        """The value of a key, None if it is absent or expired. Raises TypeError for an index or a history."""
        value = self._live(key)
        if not isinstance(value, bytes | None):
            raise TypeError(f"{key} is an index or a history, not a value")
        return value

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Store a value."""
        self._values[key] = fitted(value)
        self._keep_for(key, ttl)

    def expire(self, key: str, ttl: float) -> None:
        """Set the time to live of a key, if it exists."""
        if self._live(key) is not None:
            self._keep_for(key, ttl)

    def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None) -> None:
        """Store values and entries; with a fence all or none. Raises Fenced."""
        if fence is not None:
            # Without a stored epoch, as in an emptied store, every epoch is accepted.
            current = int(self.get(fence.key) or fence.epoch)
            if current > fence.epoch:
                raise Fenced(fence.key, fence.epoch, current)
            self.set(fence.key, b"%d" % fence.epoch, fence.ttl)
        histories: dict[str, list[HistoryEntry]] = {}
        for write in writes:
            if isinstance(write, Write):
                self.set(write.key, write.value, write.ttl)
            else:
                histories.setdefault(write.key, []).append(write)
        for key, entries in histories.items():
            self.add_entries(key, entries)

    def history(self, key: str, last: int | None = None) -> History:
        """The last entries of a history (None: all)."""
        value = self._live(key)
        if not isinstance(value, _Entries):
            return History(0, [])
        values = [value.found[position] for position in sorted(value.found)]
        shown = values if last is None else values[max(0, len(values) - last) :]
        return History(value.dropped + len(values) - len(shown), shown)

    def add_entries(self, key: str, entries: Sequence[HistoryEntry]) -> None:
        """Add entries to a history."""
        before = self._live(key)
        known = before if isinstance(before, _Entries) else _Entries(0, -1, {})
        self._values[key] = known.with_entries(entries)
        # An entry never shortens the time to live of its history, as in lua/history.lua.
        ttl = max(entry.ttl for entry in entries)
        self._keep_for(key, max(ttl, (self._expiry.due_at(key) or 0.0) - self._clock.now()))

    def delete(self, key: str) -> bool:
        """Delete a key; returns whether it existed."""
        existed = self._live(key) is not None
        self._values.pop(key, None)
        self._expiry.cancel(key)
        return existed

    def index(self, key: str) -> _Index:
        """The index under a key, empty if it is absent. Raises TypeError for a value or a history."""
        value = self._live(key)
        if not isinstance(value, dict | None):
            raise TypeError(f"{key} is a value or a history, not an index")
        return {} if value is None else value

    def set_index(self, key: str, members: _Index, ttl: float | None = None) -> None:
        """Store an index; an empty one is deleted. Without `ttl` its expiry is not changed."""
        if not members:
            self.delete(key)
            return
        self._values[key] = members
        if ttl is not None:
            self._keep_for(key, ttl)

    def check_reachable(self) -> None:
        """Raises ServerUnavailable while the server is down."""
        if self.down:
            raise ServerUnavailable("the store in memory", "this process", "it is switched off")

    def check_writable(self, operation: str) -> None:
        """Raises ServerUnavailable or StoreRefused while the server accepts no writes."""
        self.check_reachable()
        if self.refusing:
            raise StoreRefused(operation, "it is switched to refuse writes")
        self._drop_expired()

    def _live(self, key: str) -> bytes | _Index | _Entries | None:
        if (self._expiry.due_at(key) or 0.0) <= self._clock.now():
            self._values.pop(key, None)
            self._expiry.cancel(key)
        return self._values.get(key)

    def _keep_for(self, key: str, ttl: float) -> None:
        self._expiry.schedule(key, self._clock.now() + ttl)

    def _drop_expired(self) -> None:
        """Free the memory of expired keys that were not read since."""
        for key in self._expiry.pop_due(self._clock.now()):
            self._values.pop(key, None)
