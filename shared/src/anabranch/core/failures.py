"""Selects the failures that fit into a record, and those with a traceback. Pure.

An eighth of the bytes is reserved for tracebacks; bytes that failures leave free are used for tracebacks too.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from anabranch.core.wire.messages import Failure

TRACEBACKS_SHARE = 8
TRACEBACK_FIELD_BYTES = len(b',"traceback":')


def fit_failures(failures: Sequence[Failure], max_bytes: int, max_count: int | None = None) -> tuple[Failure, ...]:
    """The first failures, at most `max_count`, whose JSON takes at most `max_bytes` in total."""
    candidates = failures[:max_count]
    reserved = _within(max_bytes // TRACEBACKS_SHARE, candidates)
    bare: list[Failure] = []
    left = max_bytes - reserved
    for failure in candidates:
        short = failure.model_copy(update={"traceback": None}) if failure.traceback is not None else failure
        # 1: the comma between two failures.
        length = len(orjson.dumps(short.to_document())) + 1
        if length > left:
            break
        left -= length
        bare.append(short)
    return tuple(_with_tracebacks(failures, bare, left + reserved))


def _within(limit: int, failures: Sequence[Failure]) -> int:
    """Bytes of the tracebacks of these failures, at most `limit`."""
    taken = 0
    for failure in failures:
        taken += traceback_bytes(failure.traceback)
        if taken >= limit:
            return limit
    return taken


def _with_tracebacks(failures: Sequence[Failure], bare: Sequence[Failure], left: int) -> list[Failure]:
    found = []
    for failure, short in zip(failures, bare, strict=False):
        length = traceback_bytes(failure.traceback)
        if 0 < length <= left:
            left -= length
            found.append(failure)
        else:
            found.append(short)
    return found


def traceback_bytes(traceback: str | None) -> int:
    """Bytes that a traceback adds to the JSON of its failure."""
    return 0 if traceback is None else TRACEBACK_FIELD_BYTES + len(orjson.dumps(traceback))
