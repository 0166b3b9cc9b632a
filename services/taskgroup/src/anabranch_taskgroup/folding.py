"""Reads and writes of keys with a policy that are too much for a decision: contributions that are in the store,
and what the runs of a session made together. Decides nothing but what `core.policies` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from anabranch.core.documents import dumps
from anabranch.core.errors import ContextConflict
from anabranch.core.messages import Json, KeyReduced
from anabranch.core.names import Names, reference_address, session_key
from anabranch.core.policies import Contribution, Fold, RunsValue, reduce
from anabranch.core.results import is_reference
from anabranch.ports import Fence, Notifier, StateStore, Write
from anabranch.runtime import values
from anabranch_taskgroup.state import Shared
from anabranch_taskgroup.turn import FoldKey, Rules, channel_message

KEPT_AS_REFERENCE = ("last_write", "first_write", "error")
"""Under these policies a session has the value of one run, wherever that is stored."""


async def reduced(
    run_id: str, key: str, shared: Shared, given: Sequence[Contribution], store: StateStore, rules: Rules
) -> KeyReduced:
    """What contributions make of which some are references.

    Raises:
        ValueGone: one of them is no longer in the store.
    """
    whole = [replace(each, value=await _resolved(store, rules.names, each.value)) for each in given]
    try:
        value = reduce(shared.policy, key, whole)
    except ContextConflict as conflict:
        return KeyReduced(run_id=run_id, key=key, error=str(conflict), writers=conflict.writers)
    if shared.policy == "error":
        return KeyReduced(run_id=run_id, key=key)
    size = len(orjson.dumps(value))
    if size > rules.inline_limit:
        return KeyReduced(run_id=run_id, key=key, count=len(value), bytes=size)
    return KeyReduced(run_id=run_id, key=key, value=value)


async def _resolved(store: StateStore, names: Names, value: Json) -> Json:
    return await values.resolve(store, names, value) if is_reference(value) else value


async def fold_key(
    effect: FoldKey, epoch: int, store: StateStore, notifier: Notifier, names: Names, inline_limit: int
) -> None:
    """Fold a run's value into the session's, SET and PUBLISH that. May be repeated.

    Raises:
        Fenced: the session has another owner by now.
        ValueGone: the run's value is no longer in the store.
    """
    [stored] = await store.get([names.fold(effect.session_id, effect.key, effect.policy)])
    fold = Fold.of_document(orjson.loads(stored)) if stored is not None else Fold(effect.policy)
    await add_to(fold, effect, store, names)
    kept, public, *aside = writes_of(fold, effect, effect.ttl, names, inline_limit)
    await store.put([kept, public, *aside], Fence(names.fence(effect.session_id), epoch, effect.ttl))
    kind = "context.set" if effect.task is None else "result.published"
    message = channel_message(kind, effect.task, effect.key, effect.version, effect.run_id, public.value)
    await notifier.publish([(public.key, message)])


async def add_to(fold: Fold, effect: FoldKey, store: StateStore, names: Names) -> None:
    """Take the value of a run into a fold. Raises ValueGone."""
    value = effect.value
    if effect.policy not in KEPT_AS_REFERENCE:
        value = await _resolved(store, names, value)
    fold.add(RunsValue(effect.position, effect.submitted, effect.run_id, value, effect.replaces))


def writes_of(fold: Fold, effect: FoldKey, ttl: float, names: Names, inline_limit: int) -> list[Write]:
    """The fold itself, the public value, and where that is large what it refers to."""
    session, key = effect.session_id, effect.key
    kept = Write(names.fold(session, key, effect.policy), dumps(fold.to_document()), ttl)
    value = fold.value()
    data = dumps(value)
    name = session_key(session, key)
    if len(data) <= inline_limit or is_reference(value):
        return [kept, Write(name, data, ttl)]
    run_id, count = f"fold.{effect.policy}", _count(value)
    manifest = b'{"format":"inline","count":%d,"bytes":%d,"value":%s}' % (count, len(data), data)
    address = reference_address(session, key)
    reference = {"$anabranch": address, "count": count, "bytes": len(data), "run_id": run_id}
    aside = Write(names.value_manifest(session, run_id, key), manifest, ttl)
    return [kept, Write(name, dumps(reference), ttl), aside]


def _count(value: Json) -> int:
    return len(value) if isinstance(value, list | dict) else 1
