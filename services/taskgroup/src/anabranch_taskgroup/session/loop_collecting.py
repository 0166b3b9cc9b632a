"""Collects the values of a loop's iterations as lists, in bounded memory. Pure.

A list has one entry for each iteration, null where an iteration has no value. Full pages of entries move to the
store, and the list is a manifest of them, which `runtime.reading.values` reads. A large value of an iteration
stays where it is: its entry refers to it.
"""

from __future__ import annotations

import orjson

from anabranch.core.json_documents import dumps
from anabranch_taskgroup.session.loop_bodies import body_of, produced_by
from anabranch_taskgroup.session.merge import Joined
from anabranch_taskgroup.session.state import Absent, Group, Run, Value
from anabranch_taskgroup.session.store_keys import key_of_reference, stored_of
from anabranch_taskgroup.session.task_state import Collected, LoopState, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.value_references import reference_to


def exported_keys(group: Group, task: Task) -> list[str]:
    """The keys of a loop's body that others see after the loop. Any other result key of a loop has a summary of it
    as its value."""
    spec = task.order.loop
    assert spec is not None
    produced = produced_by(body_of(group, task))
    return [key for key in task.order.result_keys if key in produced or key in spec.state]


def collect(turn: Turn, run: Run, task: Task) -> None:
    """Add the values of the iteration that has ended."""
    loop = _loop(task)
    for key in exported_keys(run.groups[task.group], task):
        found = loop.values.get(key)
        if isinstance(found, Value) and found.is_reference:
            loop.stored.pop(key_of_reference(found.data), None)
        _add(turn, run, task, key, found)


def collected_list(turn: Turn, run: Run, task: Task, key: str) -> Joined:
    """The list of the values of a key in all iterations."""
    collected = _loop(task).collected.get(key, Collected())
    if not collected.pages and not collected.has_references and collected.size <= run.inline_limit:
        return Joined(key, [part["value"] for part in orjson.loads(b"[" + collected.pending + b"]")])
    if collected.pending:
        _store_page(turn, run, task, key, collected)
    pages = [[number, *page] for number, page in enumerate(collected.pages)]
    count = sum([parts for parts, _ in collected.pages])
    manifest = {"format": "items", "pages": pages, "count": count, "bytes": collected.size}
    stored = stored_of(task, key)
    turn.put(run, turn.config.names.value_manifest(run.session_id, run.run_id, stored), dumps(manifest))
    return Joined(key, reference_to(run, stored, count, collected.size), is_reference=True)


def _add(turn: Turn, run: Run, task: Task, key: str, found: Value | Absent | None) -> None:
    collected = _loop(task).collected.setdefault(key, Collected())
    if not isinstance(found, Value):
        part, size = b'{"value":null}', 4
    elif found.is_reference:
        part, size = dumps({"of": key_of_reference(found.data)}), int(found.data["bytes"])
        collected.has_references = True
    else:
        data = dumps(found.data)
        part, size = b'{"value":%s}' % data, len(data)
    collected.pending = b"%s,%s" % (collected.pending, part) if collected.pending else part
    collected.pending_count += 1
    collected.size += size
    if len(collected.pending) > run.inline_limit:
        _store_page(turn, run, task, key, collected)


def _store_page(turn: Turn, run: Run, task: Task, key: str, collected: Collected) -> None:
    number = len(collected.pages)
    page = b"[%s]" % collected.pending
    name = turn.config.names.value_page(run.session_id, run.run_id, stored_of(task, key), number)
    turn.put(run, name, page)
    collected.pages.append((collected.pending_count, len(page)))
    collected.pending, collected.pending_count = b"", 0


def _loop(task: Task) -> LoopState:
    assert task.loop is not None
    return task.loop
