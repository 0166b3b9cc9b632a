"""What the members of a task have used: folded from reports of workers, summed up for the run's owner. Pure.

A report has the sums of its delivery so far, so each attempt counts once, however often its reports are read. What
an attempt used counts whether it completed, failed, or was lost with its worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anabranch.core.costs import MAX_AMOUNT, Costs, TaskCosts, usd_of
from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import MembersReported, Spans
from anabranch_taskgroup.session.state import Group
from anabranch_taskgroup.session.task_state import Chunk, Task


def note_spent(task: Task, chunk: Chunk, report: MembersReported) -> None:
    """Add what attempts have used since the last report of their chunk."""
    for index, attempt, nanos, tokens in report.spent:
        known_nanos, known_tokens = chunk.spent.get((index, attempt), (0, 0))
        # A report that was overtaken by a later one has smaller sums.
        nanos, tokens = max(nanos, known_nanos), max(tokens, known_tokens)
        chunk.spent[index, attempt] = nanos, tokens
        task.nanos = min(task.nanos + nanos - known_nanos, MAX_AMOUNT)
        task.tokens = min(task.tokens + tokens - known_tokens, MAX_AMOUNT)


def note_repeated(task: Task, chunk: Chunk, started: Spans) -> None:
    """Count the calls of members that had been called before, in another delivery or attempt."""
    called = Ranges(started).difference(chunk.begun)
    task.repeated += len(called) - len(called.difference(task.started))


def costs_of(task: Task) -> Costs:
    """What a task has used in all of its iterations, with its sub-runs."""
    executions = task.repeated
    if task.order.kind == "task":
        executions += len(task.started)
    return Costs(task.nanos, task.tokens, task.micros, executions)


def costs_of_group(group: Group) -> tuple[TaskCosts, ...]:
    """What the tasks of a group have used, without those that have used nothing."""
    found: list[TaskCosts] = []
    for task in group.tasks.values():
        if task.chunk_count or task.repeated:
            # As `costs_of`, without a call for each task.
            executions = task.repeated + (len(task.started) if task.order.kind == "task" else 0)
            if task.nanos or task.tokens or task.micros or executions:
                found.append((task.order.name, task.nanos, task.tokens, task.micros, executions))
    return tuple(found)


def add_costs(task: Task, costs: tuple[int, int, int, int]) -> None:
    """Add what a sub-run has used."""
    nanos, tokens, micros, executions = costs
    task.nanos = min(task.nanos + nanos, MAX_AMOUNT)
    task.tokens = min(task.tokens + tokens, MAX_AMOUNT)
    task.micros += micros
    task.repeated += executions


def shown(task: Task, chunk: Chunk, index: int, attempt: int) -> dict[str, Any]:
    """What an attempt has used, as fields of its event; none if it has used nothing."""
    used = chunk.spent.get((index, attempt))
    return {} if used is None else _fields(task, used)


def _fields(task: Task, used: tuple[int, int]) -> dict[str, Any]:
    # With what the task has used so far: a reader that applies an event twice must not add amounts up.
    return {
        "usd": usd_of(used[0]),
        "tokens": used[1],
        "usd_total": usd_of(task.nanos),
        "tokens_total": task.tokens,
    }


def by_spending(task: Task, chunk: Chunk, attempt: int, spans: Spans) -> Iterator[tuple[Spans, dict[str, Any]]]:
    """Split the spans of members by what their attempts have used, with that as fields of their events."""
    members: dict[tuple[int, int], Ranges] = {}
    rest = Ranges(spans)
    for (index, number), used in chunk.spent.items():
        if number == attempt and index in rest:
            members.setdefault(used, Ranges()).add(index)
    for found in members.values():
        rest = rest.difference(found)
    if rest:
        yield tuple(rest), {}
    for used, found in members.items():
        yield tuple(found), _fields(task, used)
