"""Writes the derived keys of a wide `separate` join out of its pages, a batch at a time."""

from __future__ import annotations

import orjson

from anabranch.core.cloudevents import cloud_event_headers
from anabranch.core.messages import Json
from anabranch.core.names import Names, reference_address, session_key
from anabranch.core.outputs import derived_key
from anabranch.core.results import result_event_id
from anabranch.ports import EventLog, Fence, Notifier, Outgoing, StateStore, Write
from anabranch.runtime import values
from anabranch_taskgroup.turn import SpreadKeys, result_body

BATCH = 500


async def spread_keys(
    effect: SpreadKeys,
    epoch: int,
    *,
    eventlog: EventLog,
    store: StateStore,
    notifier: Notifier,
    names: Names,
) -> None:
    """SET and PUBLISH each derived key, and put it on the results topic. May be repeated.

    Raises:
        Fenced: the session has another owner by now.
    """
    for key in effect.keys:
        reference = {
            "$anabranch": reference_address(effect.session_id, key),
            "run_id": effect.run_id,
        }
        whole: dict[str, Json] = await values.resolve(store, names, reference)
        items = [(derived_key(identifier, key), value) for identifier, value in whole.items()]
        fence = Fence(names.fence(effect.session_id), epoch, effect.ttl)
        for at in range(0, len(items), BATCH):
            await _write(effect, items[at : at + BATCH], fence, eventlog, store, notifier, names)


async def _write(
    effect: SpreadKeys,
    items: list[tuple[str, Json]],
    fence: Fence,
    eventlog: EventLog,
    store: StateStore,
    notifier: Notifier,
    names: Names,
) -> None:
    writes = [Write(session_key(effect.session_id, key), orjson.dumps(value), effect.ttl) for key, value in items]
    await store.put(writes, fence)
    await notifier.publish([(session_key(effect.session_id, key), _note(effect, key)) for key, _ in items])
    await eventlog.publish([_record(effect, names, key, value) for key, value in items])


def _note(effect: SpreadKeys, key: str) -> bytes:
    note = {"type": "result.published", "task_name": effect.task, "result_key": key, "version": effect.version}
    return orjson.dumps({**note, "run_id": effect.run_id})


def _record(effect: SpreadKeys, names: Names, key: str, value: Json) -> Outgoing:
    body = result_body(effect, effect.group, effect.task, key, value, effect.version)
    headers = cloud_event_headers(
        "result.published", result_event_id(effect.run_id, key), effect.at, subject=effect.run_id
    )
    return Outgoing(names.results, effect.run_id, orjson.dumps(body), headers=headers)
