"""Names of results, stops and claims in the store and on channels. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anabranch.core.admissions import admission_of
from anabranch.core.names import Names, chunk_name, split_reference
from anabranch.core.wire.messages import Offer, TaskOrder
from anabranch.core.wire.results import MARK
from anabranch_taskgroup.session.task_state import Task


def stored_key(order: TaskOrder, key: str, iteration: Sequence[int] = ()) -> str:
    """The key under which the pages of a task's result are stored. Several tasks may produce a key with a policy,
    and each iteration of a loop produces the keys of its tasks again, so each of them stores under a key of its
    own."""
    stored = part_key(key, order.shares[key]) if key in order.shares else key
    return stored + in_iteration(iteration) if iteration else stored


def stored_of(task: Task, key: str) -> str:
    """The same for a task of a run."""
    order = task.order
    return stored_key(order, key, task.iteration) if order.shares or task.iteration else key


def in_iteration(iteration: Sequence[int]) -> str:
    """What is added to a name in the store for an iteration."""
    return f"{{#{'.'.join(map(str, iteration))}}}"


def key_of_reference(reference: Mapping[str, Any]) -> str:
    """The key under which the value of a reference is stored."""
    return split_reference(str(reference[MARK]))[1]


def part_key(key: str, number: int) -> str:
    """The key of one producer's contribution to `key`. It cannot clash with a user's key, which has no braces."""
    return f"{key}{{{number}}}"


def halt_subject(
    run_id: str, admission: int, group: str | None = None, task: str | None = None, iteration: Sequence[int] = ()
) -> str:
    """The subject of a stop: one admission of a run, one group of it, or one iteration of a task in a loop."""
    # A run of an earlier release has no admission, and its workers listen for the plain id.
    run = f"{run_id}@{admission}" if admission else run_id
    if group is None:
        return run
    return f"{run}/{group}" if task is None else f"{run}/{group}/{task}{in_iteration(iteration)}"


def subjects(offer: Offer) -> tuple[str, ...]:
    """The subjects of the stops that an offer's members obey."""
    run, admission = offer.run_id, admission_of(offer.fence)
    found = halt_subject(run, admission), halt_subject(run, admission, offer.group)
    if not offer.iteration:
        return found
    return *found, halt_subject(run, admission, offer.group, offer.task, offer.iteration)


def claim_key(names: Names, offer: Offer) -> str:
    """The key of an offer's claim in the store."""
    return names.claim(
        offer.session_id, offer.run_id, chunk_name(offer.group, offer.task, offer.chunk, offer.fence)
    )
