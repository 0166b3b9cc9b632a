"""Splits a message that is too large for one record into fragments, and reassembles them. Pure.

A fragment is a message of the internal protocol itself, so a reader that does not reassemble can skip it:

    {"type":"fragment","v":1,"message_id":"9f2c…","number":0,"count":3,"segments":[900000]}\\n<900000 bytes>

The message id is a hash of the whole value and of the fragment size. A message that is published again after a
failure therefore has the same fragments, and an `Assembler` accepts each of them once, in any order. The same
message cut at another size has another id, so that fragments of different sizes are never combined.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from anabranch.core.wire.codec import Codec, Undecodable, encode
from anabranch.core.wire.messages import Fragment

PREFIX = b'{"message_id":'
"""Prefix of every fragment and of no other message, so that a fragment is recognised without decoding it."""
HEADER_BYTES = 200
"""Maximum bytes of a fragment's header."""
MAX_MESSAGE_BYTES = 256 * 2**20
"""Maximum bytes of a message that is split, because its reader has to hold it in memory."""
EXPIRY_SECONDS = 600.0
"""Time after which an incomplete message is dropped; its publisher sends it again."""

_CODEC: Codec[Fragment] = Codec(Fragment)


def is_fragment(value: bytes) -> bool:
    """True if the value of a record is a fragment of a message."""
    return value.startswith(PREFIX)


def has_fragment(values: Iterable[bytes]) -> bool:
    """True if one of the values is a fragment of a message."""
    for value in values:  # noqa: SIM110 - `any` would call a generator for each record of each turn
        if value.startswith(PREFIX):
            return True
    return False


def fragments_of(value: bytes, limit: int) -> list[bytes]:
    """The values of the records that carry a message's value, each of at most `limit` bytes.

    Raises:
        ValueError: `limit` is too small for a fragment.
    """
    size = limit - HEADER_BYTES
    if size <= 0:
        raise ValueError(f"a limit of {limit} bytes for a record is too small for a fragment of a message")
    message_id = hashlib.sha256(b"%d:" % size + value).hexdigest()[:32]
    starts = range(0, len(value), size)
    return [
        encode(Fragment(message_id=message_id, number=number, count=len(starts)), [value[start : start + size]])
        for number, start in enumerate(starts)
    ]


@dataclass(slots=True)
class _Incomplete:
    """The fragments of a message so far. `first` is the offset of its first fragment, `at` the time of that
    record."""

    first: int
    at: float
    count: int
    pieces: dict[int, bytes] = field(default_factory=dict)


class Assembler:
    """Reassembles the messages of one partition. Its state depends only on the partition's records."""

    def __init__(self) -> None:
        self._incomplete: dict[str, _Incomplete] = {}
        self._whole: deque[tuple[int, int]] = deque()
        """(last, first) offsets of complete messages, both rising. An entry is dropped if a later message began no
        later: a replay from there covers both."""

    def __bool__(self) -> bool:
        return bool(self._incomplete or self._whole)

    def begin(self, oldest: int) -> int:
        """The offset from which a replay has every message from offset `oldest` on. Fragments of those messages,
        and of incomplete ones, may be before `oldest`, which never falls."""
        if not self._whole and not self._incomplete:
            return oldest
        while self._whole and self._whole[0][0] < oldest:
            self._whole.popleft()
        held = [each.first for each in self._incomplete.values()]
        return min([oldest, *held, *(first for _, first in islice(self._whole, 1))])

    def first_of(self, offset: int) -> int:
        """The offset from which a reader has every message from `offset` on, of those that were read so far."""
        held = [each.first for each in self._incomplete.values()]
        return min([offset, *held, *(first for last, first in self._whole if last >= offset)])

    def whole(self, value: bytes, offset: int, at: float) -> bytes:
        """The value of a record; for the last missing fragment the value of the message, for any other fragment
        the fragment itself.

        Args:
            at: the record's timestamp, in seconds since the epoch.

        An invalid fragment is returned unchanged, so that decoding fails and reports it.
        """
        fragment = _decoded(value) if is_fragment(value) else None
        if fragment is None:
            return value
        self.expire(at)  # by the record's time and not by a clock, so that a replay decides the same
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
        """Drop messages that are incomplete for too long. Each fragment does this as well, so the state does not
        depend on when it is called."""
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
