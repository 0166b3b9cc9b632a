"""Measures the memory of keys by hash tag. A benchmark tool, which scans all keys of the server."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from anabranch.adapters.redis.connection import RedisAddress
from anabranch.adapters.redis.link import RedisLink

SCANNED_AT_ONCE = 5_000


async def memory_of(address: RedisAddress, tags: Collection[str]) -> int:
    """Bytes of the keys with one of these hash tags, by the server's account, including overhead.

    Raises:
        ServerUnavailable: the server cannot be reached.
    """
    link = RedisLink(address)
    wanted = frozenset(tags)
    total, cursor = 0, 0
    try:
        while True:
            [(position, keys)] = await link.ask("SCAN", [("SCAN", cursor, "COUNT", SCANNED_AT_ONCE)])
            total += await _memory(link, [key for key in keys if tag_of(key) in wanted])
            cursor = int(position)
            if cursor == 0:
                return total
    finally:
        await link.close()


def tag_of(key: bytes) -> str | None:
    """The hash tag of a key, which determines its slot in a cluster: the text between the first `{` and the next
    `}`, if there are both."""
    _, brace, rest = key.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    return tag.decode("utf-8", "replace") if brace and end and tag else None


async def _memory(link: RedisLink, keys: Iterable[bytes]) -> int:
    sizes = await link.ask("MEMORY USAGE", [("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys])
    return sum(int(size or 0) for size in sizes)
