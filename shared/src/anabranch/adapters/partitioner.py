"""Where a key lives: murmur2 as the Java client computes it, for every adapter.

librdkafka, Java, aiokafka and Faust agree on this placement; CRC32, librdkafka's own default, would put a
key elsewhere. This module only computes; it knows neither topics nor clients.
"""

from __future__ import annotations

from functools import lru_cache

_MIX = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit unsigned hash that `org.apache.kafka.common.utils.Utils.murmur2` gives (there signed)."""
    whole = len(data) & ~3
    state = _SEED ^ len(data)
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MIX & _MASK
        word = (word ^ word >> 24) * _MIX & _MASK
        state = state * _MIX & _MASK ^ word
    if whole < len(data):
        state = (state ^ int.from_bytes(data[whole:], "little")) * _MIX & _MASK
    state = (state ^ state >> 13) * _MIX & _MASK
    return state ^ state >> 15


@lru_cache(maxsize=16_384)
def partition_of(key: str | bytes, partitions: int) -> int:
    """The partition of a key, its bytes (of text: in UTF-8) hashed, among `partitions`."""
    return (murmur2(key.encode() if isinstance(key, str) else key) & _POSITIVE) % partitions
