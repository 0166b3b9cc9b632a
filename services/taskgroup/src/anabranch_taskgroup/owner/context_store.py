"""Reduces stored contributions to a key with a policy, and folds a run's value into the session's value.

These are the parts that read the store, which a decision cannot. The rules of each policy are in `core.policies`.
"""

from __future__ import annotations

from dataclasses import replace

import orjson

from anabranch.core.errors import ContextConflict
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names, session_key
from anabranch.core.outputs import reference_count
from anabranch.core.policies import Fold, RunsValue, reduce
from anabranch.core.wire.messages import Json, KeyReduced
from anabranch.core.wire.results import is_reference, reference_document
from anabranch.ports import Fence, Notifier, StateStore, Write
from anabranch.runtime.reading import values
from anabranch_taskgroup.session.context_merge import contributions, in_order
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.turn import DecisionConfig, FoldKey, channel_message
from anabranch_taskgroup.session.value_references import inline_manifest, is_stored

SINGLE_RUN_POLICIES = ("last_write", "first_write", "error")
"""Policies under which the session's value is the value of one run: a reference to it is kept as a reference."""


async def reduced(run: Run, key: str, store: StateStore, config: DecisionConfig) -> KeyReduced:
    """Reduce the contributions of a run to a key, some of which are stored.

    Raises:
        ValueGone: one of them is no longer in the store.
    """
    run_id, shared = run.run_id, run.shared[key]
    found = [
        replace(each, value=await _resolved(store, config.names, given.value, run.session_id))
        for each, given in zip(contributions(shared), in_order(shared), strict=True)
    ]
    try:
        value = reduce(shared.policy, key, found)
    except ContextConflict as conflict:
        return KeyReduced(run_id=run_id, key=key, error=str(conflict), writers=conflict.writers)
    # All contributions are equal: the decision refers to one of them, and no value is copied.
    if shared.policy == "error":
        return KeyReduced(run_id=run_id, key=key)
    size = len(orjson.dumps(value))
    # Only a union may be this large. Its parts are in the store, and a reader of their manifest skips
    # repetitions.
    if size > run.inline_limit:
        return KeyReduced(run_id=run_id, key=key, count=len(value), bytes=size)
    return KeyReduced(run_id=run_id, key=key, value=value)


async def _resolved(store: StateStore, names: Names, value: Value, session_id: str) -> Json:
    if not value.is_reference:
        return value.data
    return await values.resolve(store, names, value.data, within=session_id)


async def fold_key(effect: FoldKey, epoch: int, store: StateStore, notifier: Notifier, names: Names) -> None:
    """Fold a run's value into the session's value, then SET and PUBLISH the result. Safe to repeat.

    Raises:
        Fenced: the session has a new owner.
        ValueGone: the run's value is no longer in the store.
    """
    # Read and write are not atomic. One owner folds a key, one effect at a time, and the fence refuses any
    # other.
    [stored] = await store.get([names.fold(effect.session_id, effect.key, effect.policy)])
    fold = Fold.of_document(orjson.loads(stored)) if stored is not None else Fold(effect.policy)
    await add_to(fold, effect, store, names)
    kept, public, *aside = writes_of(fold, effect, effect.ttl, names)
    await store.put([kept, public, *aside], Fence(names.fence(effect.session_id), epoch, effect.ttl))
    kind = "context.set" if effect.task is None else "result.published"
    message = channel_message(kind, effect.task, effect.key, effect.version, effect.run_id, public.value)
    await notifier.publish([(public.key, message)])


async def add_to(fold: Fold, effect: FoldKey, store: StateStore, names: Names) -> None:
    """Add the value of a run to a fold. Raises ValueGone."""
    value = effect.value
    if effect.policy not in SINGLE_RUN_POLICIES:
        value = await _resolved(store, names, Value(value, effect.is_reference), effect.session_id)
    fold.add(RunsValue(effect.position, effect.submitted, effect.run_id, value, effect.replaces))


def writes_of(fold: Fold, effect: FoldKey, ttl: float, names: Names) -> list[Write]:
    """The writes of a fold: the fold itself, the public value, and the manifest of the value where that is a
    reference.

    Under policies that keep one run's value, a reference that the run published stays as it is.
    """
    session, key = effect.session_id, effect.key
    kept = Write(names.fold(session, key, effect.policy), dumps(fold.to_document()), ttl)
    value = fold.value()
    data = dumps(value)
    name = session_key(session, key)
    is_published = effect.policy in SINGLE_RUN_POLICIES and is_reference(value, session)
    if is_published or not is_stored(value, data, effect.inline_limit):
        return [kept, Write(name, data, ttl)]
    # In place of a run id: the value is that of the session, and of no single run.
    run_id = f"fold.{effect.policy}"
    reference = reference_document(session, key, run_id, reference_count(value), len(data))
    aside, manifest = inline_manifest(names, session, run_id, key, value, data)
    return [kept, Write(name, dumps(reference), ttl), Write(aside, manifest, ttl)]
