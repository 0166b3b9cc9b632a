"""How a value of a run is told to others: itself, or where it is stored and referred to, its reference. Pure.

What is told stands beside references: in result keys of records, under public names, in the history. So a value
that is too large goes to the store, and so does one of any size that could be taken for a reference, whoever made
it: an agent, the request, or somebody outside. What is told is made here and nowhere else.
"""

from __future__ import annotations

import sys
from typing import Any

from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.core.outputs import reference_count
from anabranch.core.wire.messages import Json
from anabranch.core.wire.results import has_mark, reference_document
from anabranch_taskgroup.session.state import PublishedValue, Run, Value
from anabranch_taskgroup.session.turn import Turn

ANY_SIZE = sys.maxsize


def tell(turn: Turn, run: Run, key: str, value: Value, limit: int | None = None) -> PublishedValue:
    """A value of the run as it is told, stored under `key` where it has to be.

    Args:
        limit: bytes that are told as they are; None: the inline limit.
    """
    data = dumps(value.data)
    if value.is_reference:
        return PublishedValue(value.data, data, int(value.data["bytes"]), is_reference=True)
    if not is_stored(value.data, data, run.inline_limit if limit is None else limit):
        return PublishedValue(value.data, data, len(data))
    name, manifest = whole(turn.rules.names, run.session_id, run.run_id, key, value.data, data)
    turn.put(run, name, manifest)
    run.stored.append(name)
    reference = reference_to(run, key, reference_count(value.data), len(data))
    return PublishedValue(reference, dumps(reference), len(data), is_reference=True)


def is_stored(value: Json, data: bytes, limit: int) -> bool:
    """Whether a value, as JSON `data`, is told by a reference."""
    return len(data) > limit or has_mark(value)


def whole(names: Names, session_id: str, run_id: str, key: str, value: Json, data: bytes) -> tuple[str, bytes]:
    """Name and content of the manifest of a value, as JSON `data`, that is one page of its own."""
    count = reference_count(value)
    manifest = b'{"format":"inline","count":%d,"bytes":%d,"value":%s}' % (count, len(data), data)
    return names.value_manifest(session_id, run_id, key), manifest


def reference_to(run: Run, key: str, count: int, size: int) -> dict[str, Any]:
    """A reference to a value of this run: what is handed on in the value's place."""
    return reference_document(run.session_id, key, run.run_id, count, size)
