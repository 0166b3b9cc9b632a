"""Takes over cached values of members before they are offered, and has the values of others cached. Pure.

The shell computes the keys of a chunk's members and reads the cache; its answer is a record, so that each owner
decides on the same one. Of members of a run with one key, one runs and the others wait for its value.
"""

from __future__ import annotations

from typing import Any

import orjson

from anabranch.core.json_documents import dumps
from anabranch.core.outputs import reference_count
from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import CacheLooked, CacheOrigin, MembersReported
from anabranch.runtime.ownership.effects import StorePut
from anabranch_taskgroup.session.cache_state import Flight, MemberPlace
from anabranch_taskgroup.session.merge import keep_results, spill_if_large
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import LookUpCache, Turn

MAX_LOOKING = 4
"""Chunks of a task whose members are looked up at once."""


def has_cache(group: Group, task: Task) -> bool:
    """True if members of a task are looked up. Where the first members win, a value from the cache would always
    win; the keys of a `separate` join have identifiers, which only a worker knows."""
    if task.order.cache is None or group.need is not None:
        return False
    expansion = task.order.expansion
    return expansion is None or expansion.output_format != "separate"


def look_up(turn: Turn, run: Run, task: Task, chunk: Chunk) -> None:
    """Have the shell read the cache for the members of a chunk, which is offered after that."""
    task.looking[chunk.number] = chunk
    turn.effects.append(LookUpCache(run.run_id, task.group, task.name, chunk.number))


def cache_looked(turn: Turn, run: Run, task: Task, message: CacheLooked, segments: tuple[bytes, ...]) -> bool:
    """Apply what the cache has for the members of a chunk, and queue the others. Returns False for a
    repetition."""
    chunk = task.looking.get(message.chunk)
    if chunk is None or message.iteration != task.iteration or task.state is not TaskState.RUNNING:
        turn.partition.drop("cache read before")
        return False
    del task.looking[message.chunk]
    chunk.is_looked = True
    if message.warning is not None:
        run.warnings = tuple(dict.fromkeys((*run.warnings, message.warning)))
    keys = dict(zip(chunk.pending.indexes(), message.keys, strict=False))
    values: list[list[Any]] = [orjson.loads(segment) for segment in segments]
    for position, hit in enumerate(message.hits):
        if _is_fresh(turn, task, hit.origin):
            chunk.remove_member(hit.index)
            _complete(turn, run, task, hit.index, [column[position] for column in values], hit.origin)
    for index in list(chunk.pending.indexes()):
        if (key := keys.get(index)) and not _lead(run, task, key, index):
            chunk.remove_member(index)
    if chunk.pending:
        chunk.size = len(chunk.pending)
        task.requeued.insert(0, chunk)
    return True


def _is_fresh(turn: Turn, task: Task, origin: CacheOrigin) -> bool:
    cache = task.order.cache
    return cache is not None and turn.at - origin.at < cache.ttl


def _lead(run: Run, task: Task, key: str, index: int) -> bool:
    """True if a member is to compute the value of its key; else it waits for another one."""
    place = MemberPlace(task.group, task.name, index, task.iteration)
    flight = run.flights.get(key)
    if flight is None:
        run.flights[key] = Flight(place)
    elif flight.holder != place:
        flight.waiting.append(place)
        return False
    task.cache_keys[index] = key
    return True


def _complete(turn: Turn, run: Run, task: Task, index: int, values: list[Any], origin: CacheOrigin) -> None:
    """Complete a member with a value that another one has computed."""
    spans = ((index, index + 1),)
    items = tuple(_items(task, value) for value in values)
    task.ended += 1
    task.cached += 1
    keep_results(task, spans, tuple(dumps([value]) for value in values), items)
    source = origin.model_dump(mode="json", exclude_defaults=True)
    turn.event(run, "task.completed", task=task, spans=spans, attempt=0, cached_from=source)
    spill_if_large(turn, run, task)


def _items(task: Task, value: Any) -> int:
    if task.order.expansion is None:
        return reference_count(value)
    return len(value) if isinstance(value, list) else 1


# --- members that computed a value -----------------------------------------------------------------


def note_completed(turn: Turn, run: Run, task: Task, report: MembersReported, segments: tuple[bytes, ...]) -> None:
    """Cache the values of members that a worker has completed, and give them to the members that wait for them."""
    columns: list[list[Any]] | None = None
    large = {each.index for each in report.large}
    for position, index in enumerate(Ranges(report.completed).indexes()):
        key = task.cache_keys.pop(index, None)
        if key is None:
            continue
        if index in large:  # it is in pages, which expire with its run
            _pass_on(turn, run, key)
            continue
        if columns is None:
            columns = [orjson.loads(segment) for segment in segments[: len(task.order.result_keys)]]
        values = [column[position] for column in columns]
        origin = CacheOrigin(
            run_id=run.run_id,
            group=task.group,
            task=task.name,
            index=None if task.order.expansion is None else index,
            iteration=task.iteration,
            at=turn.at,
        )
        _store(turn, task, key, values, origin)
        _share(turn, run, key, values, origin)


def _store(turn: Turn, task: Task, key: str, values: list[Any], origin: CacheOrigin) -> None:
    cache = task.order.cache
    assert cache is not None
    document = {"origin": origin.model_dump(mode="json", exclude_defaults=True), "values": values}
    name = turn.config.names.cached(key)
    turn.effects.append(StorePut(key, name, dumps(document), cache.ttl, fenced=False))


def _share(turn: Turn, run: Run, key: str, values: list[Any], origin: CacheOrigin) -> None:
    flight = run.flights.pop(key, None)
    for place in flight.waiting if flight is not None else ():
        if (found := _open(run, place)) is not None:
            group, task = found
            _complete(turn, run, task, place.index, values, origin)
            turn.advancing.append((run, group, task))


def _open(run: Run, place: MemberPlace) -> tuple[Group, Task] | None:
    """The step of a member that waits; None if it has ended meanwhile."""
    group = run.groups[place.group]
    task = group.tasks[place.task]
    is_open = task.state is TaskState.RUNNING and task.iteration == place.iteration
    return (group, task) if is_open else None


def note_not_completed(turn: Turn, run: Run, task: Task, index: int) -> None:
    """A member has no value to share: the next one of its key runs."""
    if (key := task.cache_keys.pop(index, None)) is not None:
        _pass_on(turn, run, key)


def release_flights(turn: Turn, run: Run, task: Task) -> None:
    """A task has ended: of the keys that its members were computing, others run."""
    for key in task.cache_keys.values():
        _pass_on(turn, run, key)
    task.cache_keys.clear()


def _pass_on(turn: Turn, run: Run, key: str) -> None:
    flight = run.flights.pop(key, None)
    while flight is not None and flight.waiting:
        place = flight.waiting.pop(0)
        found = _open(run, place)
        if found is None:
            continue
        group, task = found
        run.flights[key] = Flight(place, flight.waiting)
        task.cache_keys[place.index] = key
        number, task.chunk_count = task.chunk_count, task.chunk_count + 1
        span = Ranges([(place.index, place.index + 1)])
        task.requeued.append(Chunk(number, span, 1, task.first_fence, size=1, is_looked=True))
        turn.advancing.append((run, group, task))
        return


def waiting_members(run: Run, task: Task) -> Ranges:
    """The members of a task that wait for the value of another one."""
    found = Ranges()
    for flight in run.flights.values():
        for place in flight.waiting:
            if (place.group, place.task, place.iteration) == (task.group, task.name, task.iteration):
                found.add(place.index)
    return found
