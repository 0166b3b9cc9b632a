"""Cuts a message that is too large for one record into fragments, and puts fragments together again. Pure.

A fragment is a message of the inner protocol by itself, so whoever only reads a topic may pass it by:

    {"type":"fragment","v":1,"message_id":"9f2c…","number":0,"count":3,"segments":[900000]}\\n<900000 bytes>

The id is a hash of the whole value and of the size of a piece: a message that is published again after a failure
has the same fragments, and an `Assembler` takes each of them once, in any order. One that is cut into pieces of
another size is another message.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from anabranch.core.wire.codec import Codec, Undecodable, encode
from anabranch.core.wire.messages import Fragment

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
    message_id = hashlib.sha256(b"%d:" % size + value).hexdigest()[:32]
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
        self._whole: deque[tuple[int, int]] = deque()
        """(last, first): offsets of the fragments of messages that are whole. Both rise: an entry goes once a
        later one began no later, for whoever needs the first message needs the second too."""

    def __bool__(self) -> bool:
        return bool(self._incomplete or self._whole)

    def begin(self, oldest: int) -> int:
        """Where to read the partition again if the message at offset `oldest` and all after it are needed: the
        first fragment of those, and of messages that are not whole, may be before it. `oldest` never falls."""
        while self._whole and self._whole[0][0] < oldest:
            self._whole.popleft()
        held = [each.first for each in self._incomplete.values()]
        return min([oldest, *held, *(first for _, first in islice(self._whole, 1))])

    def whole(self, value: bytes, offset: int, at: float) -> bytes:
        """The value of a record, or where that is the last missing fragment of a message, the message's value.

        Args:
            at: the record's timestamp, in seconds since the epoch.

        A value that begins as a fragment does and is none is returned as it is: decoding it fails then.
        """
        fragment = _decoded(value) if is_fragment(value) else None
        if fragment is None:
            return value
        self.expire(at)
        message, piece = fragment
        found = self._incomplete.setdefault(message.message_id, _Incomplete(offset, at, message.count))
        if message.count == found.count:
            found.pieces[message.number] = piece
        if len(found.pieces) < found.count:
            return value
        del self._incomplete[message.message_id]
        self._note_whole(offset, found.first)
        return b"".join(found.pieces[number] for number in range(found.count))

    def _note_whole(self, last: int, first: int) -> None:
        while self._whole and self._whole[-1][1] >= first:
            self._whole.pop()
        self._whole.append((last, first))

    def expire(self, now: float) -> None:
        """Give up messages of which a fragment is missing for too long. Told `now` by any record: it is done by
        each fragment too, so the result does not depend on when it is called."""
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
