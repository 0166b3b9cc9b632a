"""What a run has done so far, counted from its events: the state behind the live tree and the plain lines.

Pure. Counts of members come with their spans, so a hundred thousand members cost a few entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anabranch.core.events import EventBatch, EventEntry

if TYPE_CHECKING:
    from anabranch.core.planning import Plan

_ENDS = {
    "task.completed": "completed",
    "task.failed": "failed",
    "task.skipped": "skipped",
    "task.cancelled": "cancelled",
}


@dataclass(slots=True)
class TaskProgress:
    """One task: `total` is None where the number of members is not known yet."""

    name: str
    total: int | None = 1
    expanded: bool = False
    status: str = "waiting"
    started: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    began: float | None = None
    ended: float | None = None

    @property
    def done(self) -> int:
        return self.completed + self.failed

    def apply(self, entry: EventEntry) -> None:
        """Count one entry. A join that gives a message did not tolerate its failures."""
        members = 1 if entry.spans is None else sum(stop - start for start, stop in entry.spans)
        of_member = entry.spans is not None or entry.index is not None
        if entry.type == "task.expanded":
            self._expand(entry)
        elif entry.type == "task.started":
            self._start(entry, members)
        elif entry.type == "task.retrying":
            self.retried += members
        elif entry.type == "task.joined":
            self._end(entry, "failed" if entry.data.get("message") else "completed")
        elif entry.type in _ENDS:
            self._count_end(entry, members, of_member)

    def _expand(self, entry: EventEntry) -> None:
        self.expanded = True
        self.total = entry.data.get("count", self.total)
        self.status = "running"
        self.began = self.began or entry.time

    def _start(self, entry: EventEntry, members: int) -> None:
        self.started += members
        self.status = "running"
        self.began = self.began or entry.time

    def _count_end(self, entry: EventEntry, members: int, of_member: bool) -> None:
        self.completed += members if entry.type == "task.completed" else 0
        self.failed += members if entry.type == "task.failed" else 0
        if not of_member:
            self._end(entry, _ENDS[entry.type])

    def _end(self, entry: EventEntry, status: str) -> None:
        self.status = status
        self.ended = entry.time


@dataclass(slots=True)
class GroupProgress:
    """One group and its tasks, in declared order where the plan is known."""

    name: str
    status: str = "waiting"
    tasks: dict[str, TaskProgress] = field(default_factory=dict)


@dataclass(slots=True)
class RunProgress:
    """A run: its groups, and when it was last heard of."""

    run_id: str = ""
    status: str = "submitted"
    groups: dict[str, GroupProgress] = field(default_factory=dict)
    began: float | None = None
    latest: float | None = None
    _causes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of_plan(cls, run_id: str, plan: Plan | None) -> RunProgress:
        """With every task of the plan waiting."""
        progress = cls(run_id)
        for task in plan.tasks if plan else ():
            expanded = task.spec.expansion_config is not None
            progress.group(task.group).tasks[task.name] = TaskProgress(task.name, task.members, expanded)
        return progress

    def group(self, name: str) -> GroupProgress:
        """The group of that name, made where it is new."""
        return self.groups.setdefault(name, GroupProgress(name))

    def apply(self, batch: EventBatch) -> list[EventEntry]:
        """Count a batch, what it repeats left out; returns the new entries."""
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
            self.status = "running" if kind == "accepted" else kind
        elif entry.group is not None and entry.task is None:
            kind = entry.type.removeprefix("group.")
            self.group(entry.group).status = "running" if kind == "started" else kind
        elif entry.group is not None and entry.task is not None:
            tasks = self.group(entry.group).tasks
            tasks.setdefault(entry.task, TaskProgress(entry.task)).apply(entry)

    @property
    def tasks(self) -> Iterable[TaskProgress]:
        return [task for group in self.groups.values() for task in group.tasks.values()]

    @property
    def members_done(self) -> int:
        return sum(task.done for task in self.tasks)
