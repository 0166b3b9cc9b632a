"""Sets the time to live of a run's keys in the store when the run ends. Pure.

While a run is open, its keys outlive its deadline. From its end on, results are kept for their retention, and keys
that only served the work for an hour, in which late messages may still need them.
"""

from __future__ import annotations

from collections.abc import Iterator

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


def _result_keys(names: Names, run: Run) -> Iterator[str]:
    if run.session_id == run.run_id:  # a shared session's history has changes of other runs, which may be open
        yield names.context(run.session_id)
    for key in run.context:
        yield session_key(run.session_id, key)
    for group in run.groups.values():
        for key in group.results:
            yield session_key(run.session_id, key)
    yield from run.stored  # after the public names: their references must not outlive the manifests
    for key in run.shared:
        yield names.value_manifest(run.session_id, run.run_id, key)
    for group in run.groups.values():
        for task in group.tasks.values():
            yield from _page_keys(names, run, task)


def _page_keys(names: Names, run: Run, task: Task) -> Iterator[str]:
    """The manifests and the pages of a task's large values."""
    numbers: list[str] = [str(page.number) for page in task.pages]
    for key in [stored_key(task.order, key) for key in task.order.result_keys]:
        yield names.value_manifest(run.session_id, run.run_id, key)
        for number in numbers:
            yield names.value_page(run.session_id, run.run_id, key, number)
    for large in task.large:
        for page in range(len(large.sizes)):
            yield names.value_page(
                run.session_id, run.run_id, stored_key(task.order, large.key), f"{large.prefix}.{page}"
            )


def _work_keys(names: Names, run: Run) -> Iterator[str]:
    """The document of each task, and the first claims and the items of its chunks."""
    for group in run.groups.values():
        for task in group.tasks.values():
            yield names.task_document(run.session_id, run.run_id, group.name, task.name)
            for number in range(task.chunk_count):
                chunk = chunk_name(group.name, task.name, number, task.first_fence)
                yield names.claim(run.session_id, run.run_id, chunk)
                if task.member_bytes:  # smaller items are part of the offers
                    yield names.chunk_items(run.session_id, run.run_id, chunk)
