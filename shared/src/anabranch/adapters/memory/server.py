"""The server behind the store and the notifier in memory: keys with a time to live, indexes, channels.

Many clients share one server, as they would share Redis. It is bound to one event loop; its methods are
synchronous and atomic by that. It applies what clients ask and decides nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from anabranch.core.documents import fitted
from anabranch.core.errors import Fenced, ServerUnavailable, StoreRefused
from anabranch.ports import Clock, Fence, Write

Callback = Callable[[bytes | None], None]
_Index = dict[str, float]


class MemoryServer:
    """Keys, indexes and channels of one process; expiry follows `clock`.

    `down` makes every call raise ServerUnavailable, `refusing` each write StoreRefused: to see how a system
    behaves without its store.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._values: dict[str, bytes | _Index] = {}
        self._expires: dict[str, float] = {}
        self._expiries: list[tuple[float, str]] = []
        self._life = 1
        self.channels: dict[str, list[Callback]] = {}
        self.down = False
        self.refusing = False

    @property
    def identity(self) -> str:
        """Names this life of the server."""
        return f"memory-{self._life}"

    def restart(self, *, keep: bool = False) -> None:
        """Begin a new life, empty unless `keep`; subscribers get None as after a reconnect."""
        self._life += 1
        if not keep:
            self._values.clear()
            self._expires.clear()
            self._expiries.clear()
        for callbacks in list(self.channels.values()):
            for callback in list(callbacks):
                callback(None)

    def get(self, key: str) -> bytes | None:
        """The value of a key, None where it is absent or expired. Raises TypeError for an index."""
        value = self._live(key)
        if isinstance(value, dict):
            raise TypeError(f"{key} is an index, not a value")
        return value

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Store a value."""
        self._values[key] = fitted(value)
        self._keep_for(key, ttl)

    def expire(self, key: str, ttl: float) -> None:
        """Give a key, if it is there, another time to live."""
        if self.get(key) is not None:
            self._keep_for(key, ttl)

    def put(self, writes: Sequence[Write], fence: Fence | None) -> None:
        """Store values, under a fence all or none. Raises Fenced."""
        if fence is not None:
            current = int(self.get(fence.key) or fence.epoch)
            if current > fence.epoch:
                raise Fenced(fence.key, fence.epoch, current)
            self.set(fence.key, b"%d" % fence.epoch, fence.ttl)
        for write in writes:
            self.set(write.key, write.value, write.ttl)

    def delete(self, key: str) -> bool:
        """Delete a key; returns whether it existed."""
        existed = self._live(key) is not None
        self._values.pop(key, None)
        self._expires.pop(key, None)
        return existed

    def index(self, key: str) -> _Index:
        """The index of a name, empty where it is absent. Raises TypeError for a value."""
        value = self._live(key)
        if isinstance(value, bytes):
            raise TypeError(f"{key} is a value, not an index")
        return {} if value is None else value

    def set_index(self, key: str, members: _Index, ttl: float | None = None) -> None:
        """Store an index; an empty one is a deleted one. Without `ttl` its expiry stays."""
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
        """Raises ServerUnavailable or StoreRefused while the server takes no writes."""
        self.check_reachable()
        if self.refusing:
            raise StoreRefused(operation, "it is switched to refuse writes")
        self._drop_expired()

    def _live(self, key: str) -> bytes | _Index | None:
        if self._expires.get(key, 0.0) <= self._clock.now():
            self._values.pop(key, None)
            self._expires.pop(key, None)
        return self._values.get(key)

    def _keep_for(self, key: str, ttl: float) -> None:
        expires = self._clock.now() + ttl
        self._expires[key] = expires
        heapq.heappush(self._expiries, (expires, key))

    def _drop_expired(self) -> None:
        """Free what expired and nobody asked for; a key that lives longer by now is left alone."""
        now = self._clock.now()
        while self._expiries and self._expiries[0][0] <= now:
            self._live(heapq.heappop(self._expiries)[1])
        if len(self._expiries) > 64 + 4 * len(self._expires):
            self._expiries = [(expires, key) for key, expires in self._expires.items()]
            heapq.heapify(self._expiries)
