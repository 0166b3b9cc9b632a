"""A client of the store in memory: `ports.StateStore` over a shared MemoryServer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anabranch.adapters.memory.server import MemoryServer
from anabranch.core.errors import Fenced
from anabranch.ports import Fence, History, HistoryEntry, Put, Write


class MemoryStore:
    """A client of `server`."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """See `ports.StateStore`."""
        self._server.check_reachable()
        return [self._server.get(key) for key in keys]

    async def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None = None) -> None:
        """See `ports.StateStore`."""
        self._server.check_writable("put")
        self._server.put(writes, fence)

    async def put_all(self, puts: Sequence[Put]) -> None:
        """See `ports.StateStore`."""
        refused: Fenced | None = None
        for writes, fence in puts:
            try:
                await self.put(writes, fence)
            except Fenced as error:
                refused = refused or error
        if refused is not None:
            raise refused

    async def put_new(self, write: Write) -> bytes | None:
        """See `ports.StateStore`."""
        self._server.check_writable("put_new")
        present = self._server.get(write.key)
        if present is None:
            self._server.set(write.key, write.value, write.ttl)
        return present

    async def history(self, key: str, last: int | None = None) -> History:
        """See `ports.StateStore`."""
        self._server.check_reachable()
        return self._server.history(key, last)

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[str]:
        """See `ports.StateStore`."""
        self._server.check_writable("claim")
        return [self._claim(key, owner, ttl) for key in keys]

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """See `ports.StateStore`."""
        self._server.check_writable("release")
        for key in keys:
            if self._server.get(key) == owner.encode():
                self._server.delete(key)

    async def expire(self, keys: Sequence[str], ttl: float) -> None:
        """See `ports.StateStore`."""
        self._server.check_writable("expire")
        for key in keys:
            self._server.expire(key, ttl)

    async def delete(self, keys: Sequence[str]) -> int:
        """See `ports.StateStore`."""
        self._server.check_writable("delete")
        return sum(self._server.delete(key) for key in keys)

    async def index_add(self, index: str, scores: Mapping[str, float], *, keep: int, ttl: float) -> None:
        """See `ports.StateStore`."""
        self._server.check_writable("index_add")
        members = {**self._server.index(index), **scores}
        if len(members) > keep:
            for name in _highest_first(members)[keep:]:
                del members[name]
        self._server.set_index(index, members, ttl)

    async def index_top(self, index: str, count: int, offset: int = 0) -> Sequence[str]:
        """See `ports.StateStore`."""
        self._server.check_reachable()
        return _highest_first(self._server.index(index))[offset : offset + count]

    async def index_remove(self, index: str, members: Sequence[str]) -> None:
        """See `ports.StateStore`."""
        self._server.check_writable("index_remove")
        gone = set(members)
        left = {name: score for name, score in self._server.index(index).items() if name not in gone}
        self._server.set_index(index, left)

    async def identity(self) -> str:
        """See `ports.StateStore`."""
        self._server.check_reachable()
        return self._server.identity

    async def check(self) -> None:
        """See `ports.StateStore`. Never raises: nothing is evicted."""
        self._server.check_reachable()

    async def close(self) -> None:
        """See `ports.StateStore`. The server outlives its clients."""

    def _claim(self, key: str, owner: str, ttl: float) -> str:
        holder = self._server.get(key)
        if holder is not None and holder != owner.encode():
            return holder.decode()
        self._server.set(key, owner.encode(), ttl)
        return owner


def _highest_first(members: dict[str, float]) -> list[str]:
    """Members by descending score and, for equal scores, descending name: the order of Redis' ZREVRANGE."""
    return sorted(members, key=lambda name: (members[name], name.encode()), reverse=True)
