"""Shortens records of public topics that are over the topic's limit; fragments would not be readable there. Pure.

Decisions keep the records of results and events small. This is the last resort, for example after the limit of a
topic was lowered: parts are left out and marked, so that no run waits for a record that the log refuses forever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import orjson

from anabranch.core.wire.events import EventBatch, EventEntry, decode_batch, encode_batch

SHOWN_CHARACTERS = 200
"""Characters that are left of a text that has to be cut."""
SHOWN_ITEMS = 5
LEFT_OUT = "left out: the record would be larger than its topic allows"

_DETAILS = ("labels", "warnings", "errors", "failures", "name")
_VALUES = ("results", "value")


def fit_events(value: bytes, limit: int) -> Iterator[bytes]:
    """The values of the records that carry a batch of events, each of at most `limit` bytes.

    The entries are divided over several records; the data of an entry that is too large alone is shortened.
    """
    batch = decode_batch(value)
    if len(value) <= limit:
        yield value
    elif len(batch.entries) > 1:
        half = len(batch.entries) // 2
        for entries in (batch.entries[:half], batch.entries[half:]):
            yield from fit_events(encode_batch(batch.model_copy(update={"entries": entries})), limit)
    else:
        yield encode_batch(_with_short_data(batch))


def _with_short_data(batch: EventBatch) -> EventBatch:
    entries: Sequence[EventEntry] = batch.entries
    short = tuple(
        entry.model_copy(update={"data": {name: _short(each) for name, each in entry.data.items()}})
        for entry in entries
    )
    return batch.model_copy(update={"entries": short})


def fit_result(value: bytes, limit: int) -> bytes:
    """The body of a record on the results topic with at most `limit` bytes: details are cut first, and values
    last, because the store has them under their keys. A field that is still too large is left out as a whole."""
    body: dict[str, Any] = orjson.loads(value)
    names = [name for name in (*_DETAILS, *_VALUES) if name in body]
    # Every field is shortened before the first one is emptied.
    for cut, name in product((_short, _empty), names):
        if len(value) <= limit:
            break
        cut_value = cut(body[name])
        if cut_value == body[name]:
            continue  # nothing had to be left out
        body[name] = cut_value
        warning = f"{name} {LEFT_OUT}"
        body["warnings"] = [*(each for each in body.get("warnings", ()) if each != warning), warning]
        value = orjson.dumps(body)
    return value


def _short(value: Any) -> Any:
    """A value of the same kind that takes few bytes."""
    if isinstance(value, str):
        return value[:SHOWN_CHARACTERS]
    if isinstance(value, list):
        return [_cut(each) for each in value[:SHOWN_ITEMS]]
    return {} if isinstance(value, dict) else value


def _empty(value: Any) -> Any:
    """The empty value of the same kind."""
    return type(value)() if isinstance(value, (str, list, dict)) else value


def _cut(value: Any) -> Any:
    """An item of a list, with its texts shortened."""
    if isinstance(value, dict):
        return {name: each[:SHOWN_CHARACTERS] if isinstance(each, str) else each for name, each in value.items()}
    return value[:SHOWN_CHARACTERS] if isinstance(value, str) else value
