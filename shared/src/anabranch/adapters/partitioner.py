"""The partition of a key: murmur2 as in the Java client, for every adapter. Pure.

Java, aiokafka, Faust and librdkafka with `partitioner=murmur2_random` agree on this placement; CRC32, librdkafka's
default, would choose other partitions, and one key could be in two of them.
"""

from __future__ import annotations

from functools import lru_cache

_MIX = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit hash of `org.apache.kafka.common.utils.Utils.murmur2`, as an unsigned number."""
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


# Cached, because the hash is computed in Python and the records of a run share a few keys.
@lru_cache(maxsize=16_384)
def partition_of(key: str | bytes, partitions: int) -> int:
    """The partition of a key (UTF-8 bytes) of `partitions`."""
    # The sign bit is cleared as the Java client does; an absolute value would place half of the keys differently.
    return (murmur2(key.encode() if isinstance(key, str) else key) & _POSITIVE) % partitions
