"""Cuts a message that is too large for one record into fragments, and puts fragments together again. Pure.

A fragment is a message of the inner protocol by itself, so whoever only reads a topic may pass it by:

    {"type":"fragment","v":1,"message_id":"9f2c…","number":0,"count":3,"segments":[900000]}\\n<900000 bytes>

The id is a hash of the whole value: a message that is published again after a failure has the same fragments, and
an `Assembler` takes each of them once, in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from anabranch.core.codec import Codec, Undecodable, encode
from anabranch.core.messages import Fragment

PREFIX = b'{"message_id":'
"""How the value of a fragment begins, and that of no other message: told without decoding it."""
HEADER_ROOM = 200
"""Bytes that the header of a fragment takes at most."""
MAX_MESSAGE_BYTES = 256 * 2**20
"""A larger message is not cut: its reader would have to hold it in memory."""
EXPIRY_SECONDS = 600.0
"""A message whose fragments did not all come within this time is given up: its publisher sends it again."""

_CODEC: Codec[Fragment] = Codec(Fragment)


def is_fragment(value: bytes) -> bool:
    """Whether the value of a record is a fragment of a message."""
    return value.startswith(PREFIX)


def fragments_of(value: bytes, room: int) -> list[bytes]:
    """The values of the records that carry a message's value, each of at most `room` bytes.

    Raises:
        ValueError: `room` is less than a fragment needs.
    """
    size = room - HEADER_ROOM
    if size <= 0:
        raise ValueError(f"{room} bytes for a record are too few for a fragment of a message")
    message_id = hashlib.sha256(value).hexdigest()[:32]
    starts = range(0, len(value), size)
    return [
        encode(Fragment(message_id=message_id, number=number, count=len(starts)), [value[start : start + size]])
        for number, start in enumerate(starts)
    ]


@dataclass(slots=True)
class _Incomplete:
    """What came of a message so far. `first` is the offset of its first fragment, `at` that record's time."""

    first: int
    at: float
    count: int
    pieces: dict[int, bytes] = field(default_factory=dict)


class Assembler:
    """Puts the fragments of one partition together. Its state is a fold over the partition's records."""

    def __init__(self) -> None:
        self._incomplete: dict[str, _Incomplete] = {}

    @property
    def oldest(self) -> int | None:
        """The offset of the first fragment that is held: whoever reads the partition again begins there."""
        return min((each.first for each in self._incomplete.values()), default=None)

    def whole(self, value: bytes, offset: int, at: float) -> bytes:
        """The value of a record, or where that is the last missing fragment of a message, the message's value.

        Args:
            at: the record's timestamp, in seconds since the epoch.

        A value that begins as a fragment does and is none is returned as it is: decoding it fails then.
        """
        fragment = _decoded(value) if is_fragment(value) else None
        if fragment is None:
            return value
        self._expire(at)
        message, piece = fragment
        found = self._incomplete.setdefault(message.message_id, _Incomplete(offset, at, message.count))
        found.pieces[message.number] = piece
        if len(found.pieces) < found.count:
            return value
        del self._incomplete[message.message_id]
        return b"".join(found.pieces[number] for number in range(found.count))

    def _expire(self, now: float) -> None:
        for message_id in list(self._expired(now)):
            del self._incomplete[message_id]

    def _expired(self, now: float) -> Iterator[str]:
        return (key for key, each in self._incomplete.items() if now - each.at > EXPIRY_SECONDS)


def _decoded(value: bytes) -> tuple[Fragment, bytes] | None:
    try:
        found = _CODEC.decode(value)
    except Undecodable:
        return None
    is_sound = len(found.segments) == 1 and 0 <= found.message.number < found.message.count
    return (found.message, found.segments[0]) if is_sound else None
