"""Sets the time to live of a run's keys in the store when the run ends. Pure.

While a run is open, its keys outlive its deadline. From its end on, results are kept for their retention, and keys
that only served the work for an hour, in which late messages may still need them.
"""

from __future__ import annotations

from collections.abc import Iterable

from anabranch.core.names import Names, chunk_name, session_key
from anabranch.runtime.ownership.effects import Expire
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.store_keys import in_iteration, stored_of
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn

WORK_SECONDS = 3_600.0
MORE_WORK_SECONDS = 600.0
"""The same for an iteration of a loop, which has ended while its run goes on. A loop may have a million of
them."""


def expire_keys(turn: Turn, run: Run) -> None:
    """Let the keys of a run that has ended expire."""
    names = turn.config.names
    turn.effects.append(Expire(tuple(_result_keys(names, run)), turn.config.result_ttl))
    tasks: list[Task] = []
    for group in run.groups.values():
        tasks += group.tasks.values()
    turn.effects.append(Expire(tuple(work_keys_of(names, run, tasks)), WORK_SECONDS))


def _result_keys(names: Names, run: Run) -> list[str]:
    keys: list[str] = []
    if run.session_id == run.run_id:  # a shared session's history has changes of other runs, which may be open
        keys.append(names.context(run.session_id))
    for key in run.context:
        keys.append(session_key(run.session_id, key))
    for group in run.groups.values():
        for key in group.results:
            keys.append(session_key(run.session_id, key))
    keys += run.stored  # after the public names: their references must not outlive the manifests
    for key in run.shared:
        keys.append(names.value_manifest(run.session_id, run.run_id, key))
    for group in run.groups.values():
        for task in group.tasks.values():
            for key in task.order.result_keys:
                keys.append(names.value_manifest(run.session_id, run.run_id, stored_of(task, key)))
            if task.pages or task.large or task.loop is not None:
                keys += [name for found in value_keys_of(names, run, task).values() for name in found]
    return keys


def value_keys_of(names: Names, run: Run, task: Task) -> dict[str, list[str]]:
    """By key under which the store has a value of a task: the names of its manifest and its pages."""
    found: dict[str, list[str]] = {}
    if task.pages or task.large:
        for key in task.order.result_keys:
            stored = stored_of(task, key)
            found[stored] = [names.value_manifest(run.session_id, run.run_id, stored)]
            found[stored] += [
                names.value_page(run.session_id, run.run_id, stored, page.number) for page in task.pages
            ]
    for large in task.large:
        stored = stored_of(task, large.key)
        found[stored] += [
            names.value_page(run.session_id, run.run_id, stored, f"{large.prefix}.{page}")
            for page in range(len(large.sizes))
        ]
    for key, collected in task.loop.collected.items() if task.loop is not None else ():
        stored = stored_of(task, key)
        found[stored] = [names.value_manifest(run.session_id, run.run_id, stored)]
        found[stored] += [
            names.value_page(run.session_id, run.run_id, stored, page) for page in range(len(collected.pages) + 1)
        ]
    return found


def work_keys_of(names: Names, run: Run, tasks: Iterable[Task]) -> list[str]:
    """The documents of tasks, and the first claims and the items of their chunks; of tasks of a loop body, those
    of the running iteration."""
    keys: list[str] = []
    for task in tasks:
        name = names.task_document(run.session_id, run.run_id, task.group, task.order.name)
        keys.append(name + in_iteration(task.iteration) if task.iteration else name)
        for number in range(task.first_chunk, task.chunk_count):
            chunk = chunk_name(task.group, task.order.name, number, task.first_fence)
            keys.append(names.claim(run.session_id, run.run_id, chunk))
            if task.member_bytes:  # smaller items are part of the offers
                keys.append(names.chunk_items(run.session_id, run.run_id, chunk))
    return keys


def document_key(names: Names, run: Run, task: Task) -> str:
    """The name of a task's document in the store."""
    name = names.task_document(run.session_id, run.run_id, task.group, task.name)
    return name + in_iteration(task.iteration) if task.iteration else name
