"""Makes the published form of a run's value: the value itself, or a reference to it in the store. Pure.

Published values are mixed with references: in the results of records, under public names, in the history. So a
value over the inline limit is stored and referred to, and so is a value of any size that a reader could take for a
reference, be it from an agent, the request, or outside the run. No other module makes published values.
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


def as_published(turn: Turn, run: Run, key: str, value: Value, limit: int | None = None) -> PublishedValue:
    """Return the published form of a value of the run, and store the value under `key` where it is a reference.

    Args:
        limit: bytes of the largest value that is published as it is; None: the inline limit of the run.
    """
    data = dumps(value.data)
    if value.is_reference:
        return PublishedValue(value.data, data, int(value.data["bytes"]), is_reference=True)
    if not is_stored(value.data, data, run.inline_limit if limit is None else limit):
        return PublishedValue(value.data, data, len(data))
    name, manifest = inline_manifest(turn.config.names, run.session_id, run.run_id, key, value.data, data)
    turn.put(run, name, manifest)
    run.stored.append(name)
    reference = reference_to(run, key, reference_count(value.data), len(data))
    return PublishedValue(reference, dumps(reference), len(data), is_reference=True)


def is_stored(value: Json, data: bytes, limit: int) -> bool:
    """True if a value, as JSON `data`, is stored and published as a reference."""
    return len(data) > limit or has_mark(value)


def inline_manifest(
    names: Names, session_id: str, run_id: str, key: str, value: Json, data: bytes
) -> tuple[str, bytes]:
    """Name and content of the manifest of a value, as JSON `data`, that is stored in one piece."""
    count = reference_count(value)
    # Composed of bytes, so that a large value is encoded once.
    manifest = b'{"format":"inline","count":%d,"bytes":%d,"value":%s}' % (count, len(data), data)
    return names.value_manifest(session_id, run_id, key), manifest


def reference_to(run: Run, key: str, count: int, size: int) -> dict[str, Any]:
    """A reference to a value of this run, which is published in its place."""
    return reference_document(run.session_id, key, run.run_id, count, size)
