"""Metrics and trace spans of a turn of the session's owner. Pure.

Members are counted by the spans of the turn's events, never one by one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from anabranch.core.telemetry import (
    ATTEMPTS,
    BACKLOG,
    BACKLOG_MEMBERS,
    CACHE_LOOKUPS,
    CHUNKS_ENDED,
    JOIN_LAG,
    MEMBERS_ENDED,
    RUNS_OPEN,
    SPENT_TOKENS,
    SPENT_USD,
    TASKS_ENDED,
    Metric,
)
from anabranch.core.tracing import trace_of
from anabranch.core.wire.events import EventEntry
from anabranch.core.wire.messages import CacheLooked, ChunkLost, ChunkReturned, MembersReported, Message
from anabranch.ports import Telemetry
from anabranch.runtime.ownership.effects import Count, Effect, Emit, Lag
from anabranch_taskgroup.session.levels import pool_of, priority_at
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.spans import span_of_group, span_of_task
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.turn import Turn

_Counted = dict[tuple[Metric, tuple[tuple[str, str], ...]], float]


def spans_of(turn: Turn, telemetry: Telemetry) -> list[Effect]:
    """The trace spans of groups and tasks that ended in a turn, for runs that are traced."""
    found: list[Effect] = []
    for run, group, task in turn.ended:
        trace = trace_of(run.run_id, run.traceparent)
        if telemetry.wants(trace):
            span = (
                span_of_group(run, group, trace, turn.at)
                if task is None
                else span_of_task(run, task, trace, turn.at)
            )
            found.append(Emit(span))
    return found


def counts_of(turn: Turn, message: Message) -> Iterator[Effect]:
    """The metrics of a turn."""
    counted: _Counted = defaultdict(int)
    for run, entry in turn.events:
        _count_members(counted, run, entry)
    for _, _, task in turn.ended:
        if task is not None:
            counted[TASKS_ENDED, (("status", task.state.lower()),)] += 1
            if task.state is TaskState.COMPLETED:
                yield Lag(JOIN_LAG, turn.at)
    if isinstance(message, CacheLooked):
        counted[CACHE_LOOKUPS, (("outcome", "hit"),)] += len(message.hits)
        counted[CACHE_LOOKUPS, (("outcome", "miss"),)] += len(list(filter(None, message.keys))) - len(message.hits)
    if (outcome := _chunk_outcome(message)) is not None:
        counted[CHUNKS_ENDED, (("outcome", outcome),)] += 1
    for (metric, labels), amount in counted.items():
        yield Count(metric, amount, labels)


def _chunk_outcome(message: Message) -> str | None:
    if isinstance(message, MembersReported):
        return "done" if message.last else None
    if isinstance(message, ChunkReturned):
        return "returned"
    return "lost" if isinstance(message, ChunkLost) else None


def _count_members(counted: _Counted, run: Run, entry: EventEntry) -> None:
    """Count the members of an event. One without an attempt is of a whole task; imported members were counted in
    the run in which they ran."""
    outcome = _OUTCOMES.get(entry.type)
    if outcome is None or entry.attempt is None or entry.data.get("taken_over"):
        return
    task = run.task(entry.group or "", entry.task or "")
    if task is None:
        return
    members = 1 if entry.spans is None else sum(stop - start for start, stop in entry.spans)
    labels = (("agent", task.order.agent), ("outcome", outcome))
    is_decided = entry.data.get("dismissed") or entry.data.get("redriven")
    # A redriven or dismissed member made no further attempt: its event repeats the last one.
    if entry.attempt and not is_decided:
        counted[ATTEMPTS, labels] += members
    if outcome != "retried" and not entry.data.get("held"):
        counted[MEMBERS_ENDED, labels] += members
    if "usd" in entry.data:
        agent = labels[:1]
        counted[SPENT_USD, agent] += members * entry.data["usd"]
        counted[SPENT_TOKENS, agent] += members * entry.data["tokens"]


_OUTCOMES = {"task.completed": "completed", "task.failed": "failed", "task.retrying": "retried"}


def show_backlog(telemetry: Telemetry, states: Iterable[PartitionState], at: float) -> None:
    """Set the gauges of the remaining work of the sessions that this process owns. `at` is in seconds since the
    epoch."""
    seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
    members: Counter[tuple[str, ...]] = Counter()
    runs = 0
    for state in states:
        runs += len(state.runs)
        for run in state.runs.values():
            for task in (
                task for group in run.groups.values() if group.unfinished for task in group.tasks.values()
            ):
                if task.state is TaskState.RUNNING:
                    left = task.total - task.ended
                    labels = (task.order.agent, pool_of(run, task), priority_at(run, task, at))
                    members[labels] += left
                    if task.member_seconds is not None:
                        seconds[labels] += left * task.member_seconds
    telemetry.show(BACKLOG, seconds)
    telemetry.show(BACKLOG_MEMBERS, members)
    telemetry.show(RUNS_OPEN, {(): runs})
