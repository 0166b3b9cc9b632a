"""Which keys of a run are in the store, and how long they stay once it is over. Pure.

While a run is open its keys outlive its deadline. At its end the results are kept for their retention from
then on, and what only served the work goes after an hour, in which late messages may still ask for it.
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


def retire(turn: Turn, run: Run) -> None:
    """Shorten the life of a run's keys."""
    names = turn.rules.names
    turn.effects.append(Expire(tuple(_result_keys(names, run)), turn.rules.result_ttl))
    turn.effects.append(Expire(tuple(_work_keys(names, run)), WORK_SECONDS))


def _result_keys(names: Names, run: Run) -> Iterator[str]:
    if run.session_id == run.run_id:  # else the history is also that of other runs, which may be open for longer
        yield names.context(run.session_id)
    for key in run.context:
        yield session_key(run.session_id, key)
    for group in run.groups.values():
        for key in group.results:
            yield session_key(run.session_id, key)
    yield from run.stored  # public names first: a reference there is one only while its manifest is there
    for key in run.shared:
        yield names.value_manifest(run.session_id, run.run_id, key)
    for group in run.groups.values():
        for task in group.tasks.values():
            yield from _page_keys(names, run, task)


def _page_keys(names: Names, run: Run, task: Task) -> Iterator[str]:
    """The manifest and the pages of a task's large values."""
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
    """First claims and items of chunks, and the document of each task."""
    for group in run.groups.values():
        for task in group.tasks.values():
            yield names.task_document(run.session_id, run.run_id, group.name, task.name)
            for number in range(task.chunk_count):
                chunk = chunk_name(group.name, task.name, number, task.first_fence)
                yield names.claim(run.session_id, run.run_id, chunk)
                if task.member_bytes:  # others have items so small that they travel in the offers
                    yield names.chunk_items(run.session_id, run.run_id, chunk)
