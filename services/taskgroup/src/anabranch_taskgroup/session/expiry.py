"""Sets the time to live of a run's keys in the store when the run ends. Pure.

While a run is open, its keys outlive its deadline. From its end on, results are kept for their retention, and keys
that only served the work for an hour, in which late messages may still need them.
"""

from __future__ import annotations

from anabranch.core.names import Names, chunk_name, session_key
from anabranch.runtime.ownership.effects import Expire
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.store_keys import stored_key
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn

WORK_SECONDS = 3_600.0


def expire_keys(turn: Turn, run: Run) -> None:
    """Let the keys of a run that has ended expire."""
    names = turn.config.names
    turn.effects.append(Expire(tuple(_result_keys(names, run)), turn.config.result_ttl))
    turn.effects.append(Expire(tuple(_work_keys(names, run)), WORK_SECONDS))


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
                keys.append(names.value_manifest(run.session_id, run.run_id, stored_key(task.order, key)))
                if task.pages:
                    keys += _pages(names, run, task, key)
            if task.large:
                keys += _large_pages(names, run, task)
    return keys


def _pages(names: Names, run: Run, task: Task, key: str) -> list[str]:
    """The pages of a task's values under a result key."""
    stored = stored_key(task.order, key)
    return [names.value_page(run.session_id, run.run_id, stored, page.number) for page in task.pages]


def _large_pages(names: Names, run: Run, task: Task) -> list[str]:
    """The pages of a task's large values of one member."""
    return [
        names.value_page(run.session_id, run.run_id, stored_key(task.order, large.key), f"{large.prefix}.{page}")
        for large in task.large
        for page in range(len(large.sizes))
    ]


def _work_keys(names: Names, run: Run) -> list[str]:
    """The document of each task, and the first claims and the items of its chunks."""
    keys: list[str] = []
    for group in run.groups.values():
        for task in group.tasks.values():
            name = task.order.name
            keys.append(names.task_document(run.session_id, run.run_id, group.name, name))
            for number in range(task.chunk_count):
                chunk = chunk_name(group.name, name, number, task.first_fence)
                keys.append(names.claim(run.session_id, run.run_id, chunk))
                if task.member_bytes:  # smaller items are part of the offers
                    keys.append(names.chunk_items(run.session_id, run.run_id, chunk))
    return keys
