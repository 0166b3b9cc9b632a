"""Merges the contributions to a key with a policy into one value, once all of its producers have ended. Pure.

A large contribution is stored under a key of its own (`stored_key`), and none is published. When the last producer
has ended, in whatever way, the contributions are reduced in declared order. The group of the last declared
producer stays open until then and reports the value. So the value does not depend on which producer ended first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from anabranch.core.errors import ContextConflict
from anabranch.core.json_documents import dumps
from anabranch.core.policies import Contribution, reduce
from anabranch.core.wire.messages import Failure, KeyReduced
from anabranch_taskgroup.session.keys import set_key
from anabranch_taskgroup.session.merge import Joined
from anabranch_taskgroup.session.state import Absent, Group, MergedKey, ProducerValue, Run, Value
from anabranch_taskgroup.session.store_keys import part_key
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import ReduceKey, Turn, merge_details, result_body
from anabranch_taskgroup.session.value_references import as_published, reference_to


def contribute(run: Run, task: Task, joined: Joined, value: Value) -> None:
    """Keep the contribution of a completed task to a key with a policy."""
    whole = joined.value
    if joined.is_reference:
        items = 1 if _is_object(task) else int(whole["count"])
    else:
        items = len(whole) if isinstance(whole, list) else 1
    run.shared[joined.key].by_producer[task.order.shares[joined.key]] = ProducerValue(value, items)


def _is_object(task: Task) -> bool:
    return task.order.expansion is not None and task.order.expansion.output_format == "separate"


def producer_ended(turn: Turn, run: Run, task: Task) -> list[Group]:
    """Note that a task has ended, in whatever way. Returns the groups that report the keys which this settles: the
    task was their last producer."""
    homes: list[Group] = []
    for key, number in task.order.shares.items():
        shared = run.shared[key]
        shared.ended.add(number)
        # All of them, completed or not: with fewer, the value would depend on which producer ended first.
        if len(shared.ended) == len(shared.producers) and not shared.is_settled and not shared.is_reducing:
            homes += _settle(turn, run, key, shared)
    return homes


def _settle(turn: Turn, run: Run, key: str, shared: MergedKey) -> list[Group]:
    given = in_order(shared)
    if not given:
        return [_without_value(turn, run, key, shared, "no task that produces it completed")]
    if any(each.value.is_reference for each in given):
        # These policies select or list contributions by reference; all others need to read the values.
        if shared.policy not in ("last_write", "first_write", "append"):
            shared.is_reducing = True
            turn.effects.append(ReduceKey(run.run_id, key))
            return []
        return [_with_value(turn, run, key, shared, _refer(turn, run, key, shared))]
    try:
        value = reduce(shared.policy, key, contributions(shared))
    except ContextConflict as conflict:
        return [_conflict(turn, run, key, shared, str(conflict), conflict.writers)]
    return [_with_value(turn, run, key, shared, Value(value))]


def in_order(shared: MergedKey) -> list[ProducerValue]:
    """The contributions with their sizes, in declared order."""
    return [shared.by_producer[number] for number in sorted(shared.by_producer)]


def contributions(shared: MergedKey) -> list[Contribution]:
    """The contributions in declared order; one that is stored is given by its reference."""
    numbers = sorted(shared.by_producer)
    return [Contribution(shared.writer(number), shared.by_producer[number].value.data) for number in numbers]


def pending_reductions(run: Run) -> Iterator[ReduceKey]:
    """The keys of a run whose contributions the shell has to read and reduce, since some of them are in the
    store."""
    for key, shared in run.shared.items():
        if shared.is_reducing and not shared.is_settled:
            yield ReduceKey(run.run_id, key)


def apply_reduced(turn: Turn, run: Run, message: KeyReduced) -> Group | None:
    """Set a key to the value that the shell has reduced. Returns the group that reports it; None where it was
    known."""
    key, shared = message.key, run.shared.get(message.key)
    # A new owner reads and reduces again, so the result may be on the log twice.
    if shared is None or not shared.is_reducing or shared.is_settled:
        return None
    if message.error is not None:
        return _conflict(turn, run, key, shared, message.error, message.writers)
    if shared.policy == "error":
        return _with_value(turn, run, key, shared, _refer(turn, run, key, shared))
    if message.count is None:
        return _with_value(turn, run, key, shared, Value(message.value))
    union = _of_parts(turn, run, key, shared, "union", message.count, message.bytes)
    return _with_value(turn, run, key, shared, union)


# --- values that are stored elsewhere ----------------------------------------------------------------


def _refer(turn: Turn, run: Run, key: str, shared: MergedKey) -> Value:
    """The value of a key as a reference to one contribution, or to a list of all of them, without a copy."""
    if shared.policy == "append":
        count = sum(each.items for each in shared.by_producer.values())
        size = sum(_size(each.value) for each in shared.by_producer.values())
        return _of_parts(turn, run, key, shared, "concat", count, size)
    number = max(shared.by_producer) if shared.policy == "last_write" else min(shared.by_producer)
    value = shared.by_producer[number].value
    if not value.is_reference:
        return value
    return _write(
        turn, run, key, {"format": "same", "of": part_key(key, number)}, value.data["count"], _size(value)
    )


def _size(value: Value) -> int:
    return int(value.data["bytes"]) if value.is_reference else len(dumps(value.data))


def _of_parts(turn: Turn, run: Run, key: str, shared: MergedKey, form: str, count: int, size: int) -> Value:
    parts = [
        {"of": part_key(key, number)} if given.value.is_reference else {"value": given.value.data}
        for number, given in sorted(shared.by_producer.items())
    ]
    return _write(turn, run, key, {"format": form, "parts": parts}, count, size)


def _write(turn: Turn, run: Run, key: str, manifest: dict[str, Any], count: int, size: int) -> Value:
    name = turn.config.names.value_manifest(run.session_id, run.run_id, key)
    turn.put(run, name, dumps({**manifest, "count": count, "bytes": size}))
    return Value(reference_to(run, key, count, size), is_reference=True)


# --- the outcome -------------------------------------------------------------------------------------


def _with_value(turn: Turn, run: Run, key: str, shared: MergedKey, value: Value) -> Group:
    # Written in the name of the last declared producer with a value, whichever of them ended last.
    group_name, task = shared.producers[max(shared.by_producer)]
    published = as_published(turn, run, key, value)
    about = merge_details(run, shared.policy) | {"writers": shared.writers}
    turn.record_change(run, key, "result", published, group=group_name, task=task, **about)
    turn.fold_value(run, key, shared.policy, published, task)
    body = result_body(run, group_name, task, key, published.document, turn.offset)
    turn.publish_record(run, key, {**body, "policy": shared.policy, "writers": list(shared.writers)})
    home = _settled(run, key, shared)
    home.results[key] = published.document
    set_key(turn, run, run, key, value)
    return home


def _conflict(turn: Turn, run: Run, key: str, shared: MergedKey, message: str, writers: Sequence[str]) -> Group:
    """Report the later of two conflicting writers as failed; its other results stay published."""
    group_name, _, task_name = writers[-1].partition("/")
    failure = Failure(group=group_name, task=task_name, error_type="ContextConflict", message=message)
    task = run.task(group_name, task_name)
    error = failure.error_type
    turn.event(run, "task.failed", group=group_name, task=task, error_type=error, message=message, conflict=key)
    # The key stays absent, but the task does not fail: its other results may be in use already.
    home = _without_value(turn, run, key, shared, message)
    home.conflicts.append(failure)
    return home


def _without_value(turn: Turn, run: Run, key: str, shared: MergedKey, reason: str) -> Group:
    set_key(turn, run, run, key, Absent(reason))
    return _settled(run, key, shared)


def _settled(run: Run, key: str, shared: MergedKey) -> Group:
    shared.is_settled, shared.is_reducing = True, False
    home = run.groups[shared.home]
    home.unsettled.discard(key)
    return home
