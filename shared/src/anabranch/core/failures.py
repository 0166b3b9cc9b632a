"""Selects the failures that fit into a record, and those with a traceback. Pure.

An eighth of the bytes is reserved for tracebacks; bytes that failures leave free are used for tracebacks too.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from anabranch.core.wire.messages import Failure

TRACEBACKS_SHARE = 8
TRACEBACK_FIELD_BYTES = len(b',"traceback":')


def fit_failures(failures: Sequence[Failure], limit: int, most: int | None = None) -> tuple[Failure, ...]:
    """The first failures, at most `most`, whose JSON takes no more than `limit` bytes in all."""
    looked_at = failures[:most]
    reserved = _within(limit // TRACEBACKS_SHARE, looked_at)
    bare: list[Failure] = []
    room = limit - reserved
    for failure in looked_at:
        short = failure.model_copy(update={"traceback": None}) if failure.traceback is not None else failure
        length = len(orjson.dumps(short.to_document())) + 1
        if length > room:
            break
        room -= length
        bare.append(short)
    return tuple(_with_tracebacks(failures, bare, room + reserved))


def _within(limit: int, failures: Sequence[Failure]) -> int:
    """Bytes of the tracebacks of these failures, at most `limit`."""
    taken = 0
    for failure in failures:
        taken += traceback_bytes(failure.traceback)
        if taken >= limit:
            return limit
    return taken


def _with_tracebacks(failures: Sequence[Failure], bare: Sequence[Failure], room: int) -> list[Failure]:
    found = []
    for failure, short in zip(failures, bare, strict=False):
        length = traceback_bytes(failure.traceback)
        if 0 < length <= room:
            room -= length
            found.append(failure)
        else:
            found.append(short)
    return found


def traceback_bytes(traceback: str | None) -> int:
    """Bytes that a traceback adds to the JSON of its failure."""
    return 0 if traceback is None else TRACEBACK_FIELD_BYTES + len(orjson.dumps(traceback))
