"""The slot of a Redis Cluster that a key lives in, as the cluster's specification defines it."""

from __future__ import annotations

from binascii import crc_hqx

SLOTS = 16_384


def slot_of(key: str) -> int:
    """CRC16 (XMODEM) of what the first braces enclose; of the whole key where they enclose nothing."""
    _, brace, rest = key.partition("{")
    tag, closing, _ = rest.partition("}")
    hashed = tag if brace and closing and tag else key
    return crc_hqx(hashed.encode(), 0) % SLOTS
