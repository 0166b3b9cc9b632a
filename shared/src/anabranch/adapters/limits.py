"""Limits of records and positions, equal in every log adapter, so that a record that fits one fits all. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from anabranch.adapters.encoding import header_items, header_pairs, headers_size, key_bytes
from anabranch.core.errors import RecordTooLarge
from anabranch.ports import Committed, Headers, Outgoing

MAX_RECORD_BYTES = 1_040_000
"""Default limit of a record, by `record_bytes`; below the 1,048,588 bytes that a broker accepts by default."""

MAX_METADATA_CHARACTERS = 4_000
"""Maximum length of the metadata of a committed offset; a broker accepts 4,096 bytes by default."""

# In the record format of Kafka 0.11 and later, the header of a batch takes 61 bytes and the fields of a record up
# to 21.
_FRAME = 96
_HEADER_FRAME = 8


def record_bytes(record: Outgoing) -> int:
    """Bytes of a record on the wire, uncompressed, including a generous estimate of its framing."""
    headers = header_pairs(record)
    framed = headers_size(headers) + len(headers) * _HEADER_FRAME
    return len(record.value) + len(key_bytes(record) or b"") + framed + _FRAME


SMALL_BYTES = 4_000
"""Bytes of a value that fits under any allowed record limit, with its key and the same amount of headers."""
_MAX_UTF8 = 4
"""Bytes of a character in UTF-8, at most."""
MIN_LEARNED_BYTES = 40_000
"""Minimum bytes of a record that can be too large: a smaller record was refused for another reason."""


def maybe_large(records: Iterable[Outgoing]) -> list[Outgoing]:
    """The records that have to be measured: all others are so small that they fit under any allowed limit."""
    return [
        record
        for record in records
        # 1,000 characters of a key have at most 4,000 bytes in UTF-8.
        if len(record.value) > SMALL_BYTES
        or len(record.key or "") >= 1_000
        or (record.headers and _headers_bound(record.headers) > SMALL_BYTES)
    ]


def _headers_bound(headers: Mapping[str, bytes] | Headers) -> int:
    """An upper bound of `headers_size`, which encodes each name: this runs twice for each record."""
    bound = 0
    for name, value in header_items(headers):
        bound += _MAX_UTF8 * len(name) + len(value or b"")
    return bound


def check_sizes(records: Iterable[Outgoing], limit_of: Callable[[str], int]) -> None:
    """Raise RecordTooLarge for the first record over its topic's limit in bytes."""
    for record in maybe_large(records):
        size, limit = record_bytes(record), limit_of(record.topic)
        if size > limit:
            raise RecordTooLarge(record.topic, size, limit)


def check_position(position: Committed) -> None:
    """Raises ValueError if the metadata of a position is too long."""
    if len(position.metadata) > MAX_METADATA_CHARACTERS:
        raise ValueError(
            f"metadata of {len(position.metadata)} characters beside offset {position.offset}: "
            f"at most {MAX_METADATA_CHARACTERS} fit; store the rest elsewhere and commit a reference"
        )


class RecordLimits:
    """Cache of record size limits in bytes, by topic."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        """Size of the smallest refused record in bytes, by topic."""

    def smallest(self, default: int) -> int:
        """The smallest limit of a topic, at most `default`."""
        return min([default, *self._known.values()])

    def known(self, topic: str, default: int) -> int:
        """The limit of a topic, or `default` if it is not cached yet."""
        return self._known.get(topic, default)

    def note(self, topic: str, limit: int) -> int:
        """Cache a limit read from the log; returns the effective limit: half the size of the smallest refused
        record, if the log does not report a limit or refuses records below it."""
        refused = self._refused.get(topic)
        if refused is not None and refused <= limit:
            limit = min(limit, max(refused // 2, MIN_LEARNED_BYTES))
        self._known[topic] = limit
        return limit

    def refused(self, topic: str, size: int) -> None:
        """The log refused a record for its size: the limit was changed and has to be read again."""
        self._known.pop(topic, None)
        self._refused[topic] = min(size, self._refused.get(topic, size))
