"""`ports.StateStore` on Redis: translates each method to Redis commands and scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache

from anabranch.adapters.redis.connection import Command, RedisAddress
from anabranch.adapters.redis.link import RedisLink
from anabranch.adapters.redis.scripts import ADD_ENTRIES, CLAIM, FENCED_PUT, RELEASE, Argument
from anabranch.core.errors import Fenced, Misconfigured, StoreRefused
from anabranch.ports import Fence, History, HistoryEntry, Put, Write

IDENTITY_SECONDS = 1.0


class RedisStore:
    """A client of one server, over one connection."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._identity = ""
        self._identity_until = 0.0
        self._identity_of = 0

    @classmethod
    async def connect(cls, url: str, *, ca_file: str | None = None, timeout: float = 10.0) -> RedisStore:
        """Reach the server at `url` (redis://, rediss://, unix://). Raises ServerUnavailable, Misconfigured."""
        link = RedisLink(RedisAddress(url, ca_file, timeout))
        try:
            await link.ask("PING", [("PING",)])
        except BaseException:
            await link.close()
            raise
        return cls(link)

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """See `ports.StateStore`."""
        return await self._link.ask("get", [("GET", key) for key in keys])

    async def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None = None) -> None:
        """See `ports.StateStore`."""
        await self.put_all([(writes, fence)])

    async def put_all(self, puts: Sequence[Put]) -> None:
        """See `ports.StateStore`."""
        commands: list[Command] = []
        fences: list[tuple[Fence, int]] = []
        for writes, fence in puts:
            if fence is None:
                commands += _unfenced(writes)
            else:
                fences.append((fence, len(commands)))
                commands.append(_fenced(writes, fence))
        replies = await self._link.run("put", commands)
        for fence, index in fences:
            if newer := replies[index]:
                raise Fenced(fence.key, fence.epoch, int(newer))

    async def history(self, key: str, last: int | None = None) -> History:
        """See `ports.StateStore`."""
        commands: list[Command] = [
            # The member with score -1 has the number of dropped entries; see lua/history.lua.
            ("ZRANGEBYSCORE", key, -1, -1),
            ("ZCARD", key),
            ("ZREVRANGEBYSCORE", key, "+inf", 0, *(("LIMIT", 0, last) if last is not None else ())),
        ]
        notes, count, members = await self._link.ask("history", commands)
        before = int(notes[0].split()[0]) if notes else 0
        values = [member.partition(b":")[2] for member in reversed(members)]
        return History(before + count - len(notes) - len(values), values)

    async def put_new(self, write: Write) -> bytes | None:
        """See `ports.StateStore`."""
        [present] = await self._link.ask("put_new", [(*_set(write), "NX", "GET")])
        return present if present is None else bytes(present)

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[str]:
        """See `ports.StateStore`."""
        calls = [CLAIM.by_digest([key], owner, _milliseconds(ttl)) for key in keys]
        return [holder.decode() for holder in await self._link.run("claim", calls)]

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """See `ports.StateStore`."""
        await self._link.run("release", [RELEASE.by_digest([key], owner) for key in keys])

    async def expire(self, keys: Sequence[str], ttl: float) -> None:
        """See `ports.StateStore`."""
        await self._link.ask("expire", [("PEXPIRE", key, _milliseconds(ttl)) for key in keys])

    async def delete(self, keys: Sequence[str]) -> int:
        """See `ports.StateStore`."""
        # UNLINK frees the memory in the background; DEL of a large value would block the server.
        return sum(await self._link.ask("delete", [("UNLINK", key) for key in keys]))

    async def index_add(self, index: str, scores: Mapping[str, float], *, keep: int, ttl: float) -> None:
        """See `ports.StateStore`."""
        commands: list[Command] = [
            ("ZADD", index, *(part for member, score in scores.items() for part in (score, member))),
            ("ZREMRANGEBYRANK", index, 0, -keep - 1),
            ("PEXPIRE", index, _milliseconds(ttl)),
        ]
        await self._link.ask("index_add", commands)

    async def index_top(self, index: str, count: int, offset: int = 0) -> Sequence[str]:
        """See `ports.StateStore`."""
        if count <= 0:
            return []
        [members] = await self._link.ask("index_top", [("ZREVRANGE", index, offset, offset + count - 1)])
        return [member.decode() for member in members]

    async def index_remove(self, index: str, members: Sequence[str]) -> None:
        """See `ports.StateStore`."""
        if members:
            await self._link.ask("index_remove", [("ZREM", index, *members)])

    async def identity(self) -> str:
        """See `ports.StateStore`. Cached for a second, for one connection."""
        now = asyncio.get_running_loop().time()
        if now >= self._identity_until or self._identity_of != self._link.connections:
            server, replication = await self._link.ask("identity", [("INFO", "server"), ("INFO", "replication")])
            # The run id changes with a restart, the replication id with a failover.
            self._identity = f"{_field(server, 'run_id')}/{_field(replication, 'master_replid')}"
            self._identity_until = now + IDENTITY_SECONDS
            self._identity_of = self._link.connections
        return self._identity

    async def check(self) -> None:
        """See `ports.StateStore`."""
        policy = await self._eviction_policy()
        if policy != "noeviction":
            raise Misconfigured(
                f"maxmemory-policy of Redis at {self._link.address}",
                f"it is {policy}, which deletes keys that runs still need",
                "set it to noeviction, with a sufficient maxmemory",
            )

    async def close(self) -> None:
        """See `ports.StateStore`."""
        await self._link.close()

    async def _eviction_policy(self) -> str:
        try:
            [setting] = await self._link.ask("check", [("CONFIG", "GET", "maxmemory-policy")])
            return str(setting[1].decode())
        except (StoreRefused, IndexError):
            # Managed servers forbid CONFIG, but INFO has the policy too.
            [memory] = await self._link.ask("check", [("INFO", "memory")])
            return _field(memory, "maxmemory_policy")


def _set(write: Write) -> Command:
    return ("SET", write.key, write.value, "PX", _milliseconds(write.ttl))


def _unfenced(writes: Sequence[Write | HistoryEntry]) -> list[Command]:
    histories = _by_history(writes)
    return [
        *(_set(each) for each in writes if isinstance(each, Write)),
        *(ADD_ENTRIES.by_digest([key], *_entry_arguments(found)) for key, found in histories.items()),
    ]


def _fenced(writes: Sequence[Write | HistoryEntry], fence: Fence) -> Command:
    histories = _by_history(writes)
    keys, parts = [fence.key], list[Argument]()
    for each in writes:
        if isinstance(each, Write):
            keys.append(each.key)
            parts += (each.value, _milliseconds(each.ttl))
    for key, entries in histories.items():
        keys.append(key)
        parts += _entry_arguments(entries)
    return FENCED_PUT.by_digest(keys, str(fence.epoch), _milliseconds(fence.ttl), len(histories), *parts)


def _by_history(writes: Sequence[Write | HistoryEntry]) -> dict[str, list[HistoryEntry]]:
    found: dict[str, list[HistoryEntry]] = {}
    for each in writes:
        if isinstance(each, HistoryEntry):
            found.setdefault(each.key, []).append(each)
    return found


def _entry_arguments(entries: Sequence[HistoryEntry]) -> list[Argument]:
    """The arguments of the scripts for the entries of one history."""
    arguments: list[Argument] = [_milliseconds(entries[0].ttl), entries[-1].keep, len(entries)]
    for entry in entries:
        arguments[0] = max(arguments[0], _milliseconds(entry.ttl))
        arguments += (entry.position, entry.value)
    return arguments


# Cached, because nearly all writes have one of a few times to live.
@lru_cache(maxsize=256)
def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _field(info: bytes, name: str) -> str:
    """A field of an INFO reply, empty if it is missing."""
    for line in info.decode().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value
    return ""
