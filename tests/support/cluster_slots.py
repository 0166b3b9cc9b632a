"""Computes the slot of a key in a Redis Cluster, according to the cluster's specification."""

from __future__ import annotations

from binascii import crc_hqx

SLOTS = 16_384


def slot_of(key: str) -> int:
    """Return CRC16 (XMODEM) of the text in the first braces, or of the whole key if they are empty or missing."""
    _, brace, rest = key.partition("{")
    tag, closing, _ = rest.partition("}")
    hashed = tag if brace and closing and tag else key
    return crc_hqx(hashed.encode(), 0) % SLOTS
