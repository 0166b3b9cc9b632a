"""Progress of a run, counted from its events: the state behind the live tree and the plain lines.

Pure. One event covers many members as spans, so counting a hundred thousand members takes few entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anabranch.cli.render.heat import Counted, Heat
from anabranch.core.flow_texts import AWAITING, text_of_wait
from anabranch.core.names import path_in_loops
from anabranch.core.progress import run_share, task_share
from anabranch.core.timestamps import utc_text
from anabranch.core.waiting import decisions_wanted, queued_for, reason
from anabranch.core.wire.events import EventBatch, EventEntry, joined_status

if TYPE_CHECKING:
    from anabranch.core.request.planning import Plan

_ENDS = {
    "task.completed": "completed",
    "task.failed": "failed",
    "task.skipped": "skipped",
    "task.cancelled": "cancelled",
}


_DECIDED = ("task.skipped", "task.cancelled")
MAX_FAILURES = 3
"""Maximum number of failures per task whose messages are kept; all are counted."""


@dataclass(frozen=True, slots=True)
class ShownFailure:
    """A failure, from its event. `index` is None for a task without an expansion."""

    index: int | None
    error_type: str
    message: str


@dataclass(slots=True)
class TaskProgress:
    """One task.

    Attributes:
        total: number of members; None until it is known.
        heat: heat strip of an expanded task, else None.
        needs: result keys that the task depends on.
        level: depth of the task in the plan, from 0.
        because: why it was skipped, or cancelled by the tasks that decided its group.
    """

    name: str
    total: int | None = 1
    expanded: bool = False
    status: str = "waiting"
    started: int = 0
    completed: int = 0
    failed: int = 0
    is_broken: bool = False
    """True for an expanded task that failed as a whole, as by its budget: that is no failed member."""
    held: int = 0
    retried: int = 0
    began: float | None = None
    ended: float | None = None
    lacks_agent: str | None = None
    lacks_room: str | None = None
    lacks_pool: dict[str, Any] | None = None
    because: str | None = None
    needs: tuple[str, ...] = ()
    level: int | None = None
    heat: Heat | None = None
    failures: list[ShownFailure] = field(default_factory=list)
    iteration: tuple[int, ...] = ()
    """The iteration of the loops around the task."""
    in_loop: str | None = None
    """The innermost of these loops, a task of the same group."""
    awaits: str | None = None
    """What its members wait for; None if none is known to wait."""
    approval: dict[str, Any] | None = None
    """The wait for a person, as in its event; None if it waits for none."""
    loop: dict[str, Any] | None = None
    """Of a loop, its iterations: how many have `ended` and `failed`, and the number of the `running` one."""

    def in_iteration(self, iteration: tuple[int, ...]) -> TaskProgress:
        """The task as it begins an iteration."""
        total = None if self.expanded else self.total
        return TaskProgress(
            self.name,
            total,
            expanded=self.expanded,
            needs=self.needs,
            level=self.level,
            failures=self.failures,
            iteration=iteration,
            in_loop=self.in_loop,
        )

    @property
    def done(self) -> int:
        return self.completed + self.failed

    @property
    def failures_total(self) -> int:
        """Number of failed members; a task that failed as a whole counts as one more."""
        return self.failed + self.is_broken

    @property
    def share(self) -> float:
        """Completed share, from 0 to 1."""
        return task_share(self.status, self.total, self.done - self.held)

    def apply(self, entry: EventEntry) -> None:
        """Count one entry."""
        members = 1 if entry.spans is None else sum(stop - start for start, stop in entry.spans)
        of_member = entry.spans is not None or entry.index is not None
        if entry.data.get("reason") == "no_room":
            self.lacks_room = str(entry.data["lacks"])
            return
        if entry.type == "task.started":
            self.lacks_room = None
        if entry.type != "task.log":
            self.lacks_agent = str(entry.data["agent"]) if entry.data.get("reason") == "no_agent" else None
            self.lacks_pool = entry.data if entry.data.get("reason") == "no_workers" else None
        if entry.type == "task.waiting" and self.lacks_agent is None and self.lacks_pool is None:
            self._wait(entry)
        elif entry.type == "task.expanded":
            self._expand(entry)
        elif entry.type == "task.started":
            self._start(entry, members)
        elif entry.type == "task.retrying":
            self._retry(entry, members)
        elif entry.type == "task.joined":
            self._end(entry, joined_status(entry.data))
        elif entry.type in _ENDS:
            self._count_end(entry, members, of_member)

    def _wait(self, entry: EventEntry) -> None:
        self.awaits = text_of_wait(entry.data)
        self.approval = entry.data if entry.data.get("reason") == "approval" else None
        self.status = AWAITING
        self.began = self.began or entry.time

    def apply_iteration(self, action: str, number: int, time: float) -> None:
        """Count an event of an iteration of this loop."""
        loop = self.loop or {"running": None, "ended": 0, "failed": 0}
        if action == "started":
            self.status, self.began = "running", self.began or time
            self.loop = loop | {"running": number}
        else:
            failed = loop["failed"] + (action == "failed")
            self.loop = {"running": None, "ended": number + 1, "failed": failed}

    def _expand(self, entry: EventEntry) -> None:
        self.expanded = True
        self.total = entry.data.get("count", self.total)
        self.heat = Heat(self.total) if self.total else None
        self.status = "running"
        self.began = self.began or entry.time

    def _start(self, entry: EventEntry, members: int) -> None:
        # A further attempt of the same member starts no further member.
        if (entry.attempt or 1) == 1:
            self.started += members
            self._add_heat("started", entry)
        self.status = "running"
        self.began = self.began or entry.time

    def _retry(self, entry: EventEntry, members: int) -> None:
        self.retried += members
        if entry.data.get("redriven"):
            # The member starts again, with attempt 1: it is counted again when it starts.
            self.failed -= members
            self.held -= members
            self.started -= members

    def _count_end(self, entry: EventEntry, members: int, of_member: bool) -> None:
        self.completed += members if entry.type == "task.completed" else 0
        if entry.type == "task.completed":
            self._add_heat("completed", entry)
        elif entry.type == "task.failed":
            self.is_broken = self.expanded and not of_member
            self._fail(entry, 0 if self.is_broken else members)
        self.because = entry.data.get("because") if entry.type in _DECIDED else None
        # A held task has not ended: its join waits for the decision about its only member.
        if not of_member and not entry.data.get("held"):
            self._end(entry, _ENDS[entry.type])
        elif self.awaits is not None and self.status == AWAITING and self.done >= (self.total or 1):
            self.status = "running"

    def _fail(self, entry: EventEntry, members: int) -> None:
        """Skip the failure event of a dismissed member: the member was counted as failed when it was held."""
        if entry.data.get("dismissed"):
            self.held -= members
            return
        self.failed += members
        self.held += members if entry.data.get("held") else 0
        self._add_heat("failed", entry)
        self._add_failures(entry)

    def _add_heat(self, kind: Counted, entry: EventEntry) -> None:
        if self.heat is None:
            return
        spans = (
            ((entry.index, entry.index + 1),) if entry.spans is None and entry.index is not None else entry.spans
        )
        for start, stop in spans or ():
            self.heat.add(kind, start, stop)

    def _add_failures(self, entry: EventEntry) -> None:
        """Keep the failures of an event. Members with the same failure are spans: the first of each span is
        kept."""
        indices = [entry.index] if entry.spans is None else [start for start, _ in entry.spans]
        error = [str(entry.data.get(name) or "") for name in ("error_type", "message")]
        for index in indices[:MAX_FAILURES]:
            self.add_failure(ShownFailure(index, *error))

    def add_failure(self, failure: ShownFailure) -> None:
        """Keep a failure with its message, up to MAX_FAILURES."""
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(failure)

    def _end(self, entry: EventEntry, status: str) -> None:
        self.status = status
        self.ended, self.awaits, self.approval = entry.time, None, None


@dataclass(slots=True)
class GroupProgress:
    """One group and its tasks, in declared order if the plan is known."""

    name: str
    status: str = "waiting"
    tasks: dict[str, TaskProgress] = field(default_factory=dict)

    def share_of(self, task: TaskProgress) -> float:
        """What a task counts in the share of the run: one in a loop counts once the outermost loop has ended."""
        loop = task
        for _ in task.iteration:
            loop = self.tasks.get(loop.in_loop or "", loop)
        if loop is not task:
            return 1.0 if loop.ended is not None else 0.0
        return 0.0 if task.iteration else task.share

    def path(self, task: TaskProgress) -> str:
        """The name of a task with the iterations of its loops: `writing[3]/draft`."""
        if not task.iteration:
            return task.name
        loops: list[str] = []
        loop: TaskProgress | None = task
        while loop is not None and loop.in_loop is not None and len(loops) < len(task.iteration):
            loops.append(loop.in_loop)
            loop = self.tasks.get(loop.in_loop)
        return path_in_loops(self.name, task.name, loops[::-1], task.iteration)


@dataclass(slots=True)
class RunProgress:
    """A run and its groups. `latest` is the time of the last event, in seconds since the epoch."""

    run_id: str = ""
    name: str = ""
    status: str = "submitted"
    groups: dict[str, GroupProgress] = field(default_factory=dict)
    began: float | None = None
    latest: float | None = None
    tasks_total: int | None = None
    not_before: float | None = None
    queued: str | None = None
    """What a queued run waits for."""
    _causes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of_plan(cls, run_id: str, plan: Plan | None) -> RunProgress:
        """The initial state: every task of the plan is waiting. Without a plan, events add the tasks."""
        progress = cls(run_id, plan.request.name or "" if plan else "")
        for task in plan.tasks if plan else ():
            progress.group(task.group).tasks[task.name] = TaskProgress(
                task.name,
                task.members,
                expanded=task.spec.expansion_config is not None,
                needs=tuple(need.key for need in task.needs if need.kind in ("produced", "external")),
                level=task.level,
                in_loop=task.spec.in_loop,
            )
        return progress

    def group(self, name: str) -> GroupProgress:
        """The group with this name, created if it is new."""
        return self.groups.setdefault(name, GroupProgress(name))

    def apply(self, batch: EventBatch) -> list[EventEntry]:
        """Count a batch and return its new entries. Entries repeated after a crash are recognized by their
        cause."""
        last = self._causes.get(batch.source, -1)
        new = [entry for entry in batch.entries if entry.cause > last]
        for entry in new:
            self._apply(entry)
        if new:
            self._causes[batch.source] = new[-1].cause
        return new

    def _apply(self, entry: EventEntry) -> None:
        self.began = entry.time if self.began is None else self.began
        self.latest = entry.time
        if entry.type.startswith("run."):
            kind = entry.type.removeprefix("run.")
            self.status = "running" if kind in ("accepted", "resumed", "started") else kind
            self.tasks_total = entry.data.get("tasks") or self.tasks_total
            if kind == "scheduled":
                self.not_before = entry.data.get("not_before")
            elif kind == "queued":
                self.queued = queued_for(entry.data)
        elif entry.group is not None and entry.task is None:
            kind = entry.type.removeprefix("group.")
            self.group(entry.group).status = "running" if kind == "started" else kind
        elif entry.group is not None and entry.task is not None:
            self._apply_to_task(self.group(entry.group).tasks, entry.task, entry)

    def _apply_to_task(self, tasks: dict[str, TaskProgress], name: str, entry: EventEntry) -> None:
        task = tasks.setdefault(name, TaskProgress(name))
        is_loop = entry.type.startswith("iteration.")
        iteration = entry.iteration[:-1] if is_loop else entry.iteration
        if iteration > task.iteration:  # the task of a loop begins again
            task.in_loop = entry.data.get("in_loop", task.in_loop)
            task = tasks[name] = task.in_iteration(iteration)
        if is_loop:
            task.apply_iteration(entry.type.removeprefix("iteration."), entry.iteration[-1], entry.time)
        else:
            task.apply(entry)

    @property
    def tasks(self) -> Iterable[TaskProgress]:
        return [task for group in self.groups.values() for task in group.tasks.values()]

    @property
    def members_done(self) -> int:
        return sum(task.done for task in self.tasks)

    @property
    def share(self) -> float | None:
        """Completed share of the run, from 0 to 1; None if the number of its tasks is not known."""
        shares = [group.share_of(task) for group in self.groups.values() for task in group.tasks.values()]
        return run_share(self.status, shares, self.tasks_total or len(shares))

    @property
    def is_unstarted(self) -> bool:
        """True if the run was accepted and none of its groups has started."""
        return self.status == "running" and all(group.status == "waiting" for group in self.groups.values())

    def waits_for(self, unstarted: float | None) -> str | None:
        """The person, or the missing worker or agent that the run waits for; `unstarted` is how many seconds
        `is_unstarted` was true."""
        if self.status == "scheduled" and self.not_before is not None:
            return f"its start at {utc_text(self.not_before)}"
        if self.status == "queued":
            return self.queued
        if self.status not in ("submitted", "running", "compensating"):
            return None
        asked = [
            (f"{group.name}/{task.name}", task.approval, max(1, (task.total or 1) - task.done))
            for group in self.groups.values()
            for task in group.tasks.values()
            if task.approval is not None
        ]
        if (people := decisions_wanted(asked)) is not None:
            return people
        agents = [task.lacks_agent for task in self.tasks if task.lacks_agent is not None]
        rooms = [task.lacks_room for task in self.tasks if task.lacks_room is not None]
        pools = [task.lacks_pool for task in self.tasks if task.lacks_pool is not None]
        return reason(agents, unstarted, rooms, pools)

    @property
    def failed(self) -> int:
        """Number of failed members and tasks."""
        return sum(task.failures_total for task in self.tasks)

    @property
    def levels(self) -> tuple[int, int] | None:
        """Current level of the run, from 1, and number of levels; None if the plan is not known."""
        known = [(task.level, task.ended) for task in self.tasks if task.level is not None]
        if not known:
            return None
        last = max(level for level, _ in known) + 1
        open_levels = [level for level, ended in known if ended is None]
        return (min(open_levels) + 1 if open_levels else last), last

    @property
    def members_total(self) -> int:
        """Number of executions known so far; a task whose number of members is not known counts as one."""
        return sum(1 if task.total is None else task.total for task in self.tasks)
