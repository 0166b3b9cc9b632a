"""The limits on records and positions, the same in every log adapter, so that what fits one fits all.

Only arithmetic and refusals: nothing here sends or stores.
"""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.adapters.parts import header_pairs, headers_size, key_bytes
from anabranch.core.errors import RecordTooLarge
from anabranch.ports import Committed, Outgoing

MAX_RECORD_BYTES = 1_040_000
"""Largest record as `record_bytes` counts it; below the 1,048,588 bytes a broker takes by default."""

MAX_METADATA_CHARACTERS = 4_000
"""Longest text beside a committed offset; a broker takes 4,096 bytes by default."""

_FRAME = 96
_HEADER_FRAME = 8


def record_bytes(record: Outgoing) -> int:
    """What a record needs on the wire, uncompressed, with a little to spare for its framing."""
    headers = header_pairs(record)
    framed = headers_size(headers) + len(headers) * _HEADER_FRAME
    return len(record.value) + len(key_bytes(record) or b"") + framed + _FRAME


def check_sizes(records: Sequence[Outgoing], limit: int) -> None:
    """Raises RecordTooLarge for the first record over `limit` bytes."""
    for record in records:
        if len(record.value) + _FRAME <= limit // 2 and not record.headers and len(record.key or "") < 1_000:
            continue
        size = record_bytes(record)
        if size > limit:
            raise RecordTooLarge(record.topic, size, limit)


def check_position(position: Committed) -> None:
    """Raises ValueError where the metadata would not fit beside the offset."""
    if len(position.metadata) > MAX_METADATA_CHARACTERS:
        raise ValueError(
            f"metadata of {len(position.metadata)} characters beside offset {position.offset}: "
            f"at most {MAX_METADATA_CHARACTERS} fit; store the rest elsewhere and commit a reference"
        )
