"""Writes the derived keys of a wide `separate` join out of its pages, in batches.

Each value is stored under the public name of its key and under a name of the run. So the run's references keep
their value when a later run of the session publishes the same key. A large value is public as such a reference.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass

from anabranch.core.json_documents import dumps
from anabranch.core.names import Names, session_key
from anabranch.core.outputs import derived_key, reference_count
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.messages import Json
from anabranch.core.wire.results import reference_document, result_event_id
from anabranch.ports import EventLog, Fence, Notifier, Outgoing, StateStore, Write
from anabranch.runtime.reading import values
from anabranch_taskgroup.session.turn import WriteDerivedKeys, result_body
from anabranch_taskgroup.session.value_references import inline_manifest, is_stored

BATCH = 500
BATCH_BYTES = 8_000_000


async def write_derived_keys(
    effect: WriteDerivedKeys,
    epoch: int,
    *,
    eventlog: EventLog,
    store: StateStore,
    notifier: Notifier,
    names: Names,
) -> None:
    """SET and PUBLISH each derived key, and publish it on the results topic. Safe to repeat.

    Raises:
        Fenced: the session has a new owner.
    """
    for key, source in _keys(effect):
        items = await _items(effect, key, source, store, names)
        fence = Fence(names.fence(effect.session_id), epoch, effect.ttl)
        for batch in _batches(items):
            await _write(effect, batch, fence, eventlog, store, notifier, names)


async def derived_writes(
    effect: WriteDerivedKeys, ttl: float, store: StateStore, names: Names
) -> AsyncGenerator[tuple[Write, Write], None]:
    """Yield for each derived key its writes under the run's name and under the public name, for `ttl` seconds.

    Raises:
        ValueGone: the pages are not in the store.
    """
    for key, source in _keys(effect):
        for item in await _items(effect, key, source, store, names):
            public = session_key(effect.session_id, item.key)
            yield Write(item.own, item.manifest, ttl), Write(public, item.data, ttl)


@dataclass(frozen=True, slots=True)
class _Derived:
    """A derived key: its published form, and its manifest under `own`, the name of the run."""

    key: str
    document: Json
    data: bytes
    own: str
    manifest: bytes


def _keys(effect: WriteDerivedKeys) -> Iterator[tuple[str, str]]:
    """(result key, key of its pages) of the task."""
    return zip(effect.keys, effect.sources or effect.keys, strict=True)


async def _items(
    effect: WriteDerivedKeys, key: str, source: str, store: StateStore, names: Names
) -> list[_Derived]:
    # Only to read the pages: count and size are not used, and the reference is not published.
    reference = reference_document(effect.session_id, source, effect.run_id, 1, 0)
    joined: dict[str, Json] = await values.resolve(store, names, reference, within=effect.session_id)
    return [_derived(effect, derived_key(name, key), value, names) for name, value in joined.items()]


def _derived(effect: WriteDerivedKeys, key: str, value: Json, names: Names) -> _Derived:
    data = dumps(value)
    session_id, run_id = effect.session_id, effect.run_id
    own, manifest = inline_manifest(names, session_id, run_id, key, value, data)
    if not is_stored(value, data, effect.inline_limit):
        return _Derived(key, value, data, own, manifest)
    reference = reference_document(session_id, key, run_id, reference_count(value), len(data))
    return _Derived(key, reference, dumps(reference), own, manifest)


def _batches(items: Sequence[_Derived]) -> Iterator[list[_Derived]]:
    """Split items into batches of one call of the store each."""
    batch: list[_Derived] = []
    size = 0
    for item in items:
        if batch and (len(batch) >= BATCH or size + len(item.manifest) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.manifest)
    if batch:
        yield batch


async def _write(
    effect: WriteDerivedKeys,
    items: Sequence[_Derived],
    fence: Fence,
    eventlog: EventLog,
    store: StateStore,
    notifier: Notifier,
    names: Names,
) -> None:
    session_id = effect.session_id
    own = [Write(item.own, item.manifest, effect.ttl) for item in items]
    public = [Write(session_key(session_id, item.key), item.data, effect.ttl) for item in items]
    # The values first, then what refers to them: a crash in between repeats the effect, and no message names a
    # missing value.
    await store.put(own + public, fence)
    await notifier.publish([(session_key(session_id, item.key), _note(effect, item.key)) for item in items])
    await eventlog.publish([_record(effect, names, item.key, item.document) for item in items])


def _note(effect: WriteDerivedKeys, key: str) -> bytes:
    note = {"type": "result.published", "task_name": effect.task, "result_key": key, "version": effect.version}
    return dumps({**note, "run_id": effect.run_id})


def _record(effect: WriteDerivedKeys, names: Names, key: str, value: Json) -> Outgoing:
    body = result_body(effect, effect.group, effect.task, key, value, effect.version)
    headers = cloud_event_headers(
        "result.published", result_event_id(effect.run_id, key), effect.at, subject=effect.run_id
    )
    return Outgoing(names.results, effect.run_id, dumps(body), headers=headers)
