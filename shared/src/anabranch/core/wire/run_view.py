"""The view of a run: a JSON document that the EventManager writes to the store from the run's events. Pure.

`status`, `list`, `top`, the HTTP API and the dashboard show it. A view may trail its run by about a second. Before
the EventManager has written it, and after it has expired, `RunView.of_record` makes one from the run's record.
Times are in seconds since the epoch.

Fields that a newer release has added are kept as they are, so that a client shows what a newer gateway sends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from anabranch.core.names import path_in_loops
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.timestamps import parse_timestamp
from anabranch.core.wire.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class AttemptView:
    """The latest attempt of an ordinary task. `number` counts from 1; `ended_at` is None while it runs."""

    number: int
    started_at: float
    ended_at: float | None = None
    worker: str | None = None

    def to_document(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "worker": self.worker,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> AttemptView:
        started, ended = document["started_at"], document.get("ended_at")
        return cls(document["number"], started, ended, document.get("worker"))


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task of a run.

    Attributes:
        status: `waiting`, `running`, `completed`, `failed`, `skipped` or `cancelled`.
        expanded: True if the task has members; an ordinary task counts as one member.
        members: the number of members; None while it is not known.
        started, completed, failed: numbers of members.
        held: those of the failed members that wait for a redrive or a dismissal.
        attempts: the highest number of attempts of a member.
        attempt: the latest attempt of an ordinary task; None for an expanded one.
        lacks_agent: the agent that no worker has; None if none is known to be missing.
        lacks_room: which worker lacks what of what the task requires; None unless that holds for all.
        lacks_pool: `{"pool", "since"}` of the pool that has no worker; None if none is known to lack them.
        reason: of a skipped task `dependency`, `condition`, `branch`, `empty` or `wait`; else None.
        because: the same for people, also of a task that was cancelled because others decided its group.
        progress: `{"index", "fraction", "note", "time"}` for each of a few members that have not ended.
        waits: `{"reason", "until", "name", "approval", "since", "members", "decisions"}` of members that wait for
            a `time`, a `condition`, an `event`, a `signal` or an `approval`; `members` are [start, stop) pairs.
        share: completed share, from 0 to 1; see `anabranch.core.progress`.
        iteration: the last iteration of the loops around the task, which the other fields are about, the outermost
            loop first; None outside of loops.
        in_loop: the name of the innermost of these loops, a task of the same group; None outside of loops.
        loop: of a loop: the number of its `running` iteration or None, how many have `ended` and `failed`, the
            `last` of those that ended as `{"number", "status", "started_at", "ended_at"}`, and the iteration that
            the loop itself is `within`.
        chosen: of a switch, the number of the case that it chose; -1 for none, the number of cases for the
            default.
        ended_by: of a wait or a loop, what ended it.
        costs: `{"usd", "tokens"}` that attempts which have ended reported, in all iterations; None if none did.
    """

    status: str
    started_at: float | None = None
    ended_at: float | None = None
    expanded: bool = False
    members: int | None = None
    started: int = 0
    completed: int = 0
    failed: int = 0
    held: int = 0
    attempts: int = 0
    attempt: AttemptView | None = None
    lacks_agent: str | None = None
    lacks_room: str | None = None
    lacks_pool: dict[str, Any] | None = None
    reason: str | None = None
    because: str | None = None
    progress: list[dict[str, Any]] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)
    share: float = 0.0
    iteration: list[int] | None = None
    in_loop: str | None = None
    loop: dict[str, Any] | None = None
    chosen: int | None = None
    ended_by: str | None = None
    costs: dict[str, Any] | None = None

    @property
    def ended(self) -> int:
        """The number of members that completed or failed."""
        return self.completed + self.failed

    @property
    def running(self) -> int:
        """The number of members that run now."""
        return max(0, self.started - self.ended) if self.status == "running" else 0

    def to_document(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "expanded": self.expanded,
            "members": self.members,
            "started": self.started,
            "completed": self.completed,
            "failed": self.failed,
            "held": self.held,
            "attempts": self.attempts,
            "attempt": None if self.attempt is None else self.attempt.to_document(),
            "lacks_agent": self.lacks_agent,
            **({} if self.lacks_room is None else {"lacks_room": self.lacks_room}),
            **({} if self.lacks_pool is None else {"lacks_pool": self.lacks_pool}),
            **({} if self.because is None else {"reason": self.reason, "because": self.because}),
            "progress": self.progress,
            "waits": self.waits,
            "share": self.share,
            # Only tasks with control flow have these. Without a loop, which would be a Python call for each task.
            **({} if self.iteration is None else {"iteration": self.iteration, "in_loop": self.in_loop}),
            **({} if self.loop is None else {"loop": self.loop}),
            **({} if self.chosen is None else {"chosen": self.chosen}),
            **({} if self.ended_by is None else {"ended_by": self.ended_by}),
            **({} if self.costs is None else {"costs": self.costs}),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> TaskView:
        get = document.get
        attempt = get("attempt")
        return cls(
            status=document["status"],
            started_at=get("started_at"),
            ended_at=get("ended_at"),
            expanded=bool(get("expanded")),
            members=get("members"),
            started=get("started") or 0,
            completed=get("completed") or 0,
            failed=get("failed") or 0,
            held=get("held") or 0,
            attempts=get("attempts") or 0,
            attempt=None if attempt is None else AttemptView.from_document(attempt),
            lacks_agent=get("lacks_agent"),
            lacks_room=get("lacks_room"),
            lacks_pool=get("lacks_pool"),
            reason=get("reason"),
            because=get("because"),
            progress=get("progress") or [],
            waits=get("waits") or [],
            share=get("share") or 0.0,
            iteration=get("iteration"),
            in_loop=get("in_loop"),
            loop=get("loop"),
            chosen=get("chosen"),
            ended_by=get("ended_by"),
            costs=get("costs"),
        )


@dataclass(frozen=True, slots=True)
class GroupView:
    """A task group of a run. `status`: `waiting`, `running`, `completed`, `failed`, `cancelled` or `timed_out`."""

    status: str
    started_at: float | None = None
    ended_at: float | None = None
    tasks: dict[str, TaskView] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "tasks": {name: task.to_document() for name, task in self.tasks.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> GroupView:
        tasks = document.get("tasks") or {}
        return cls(
            status=document["status"],
            started_at=document.get("started_at"),
            ended_at=document.get("ended_at"),
            tasks={name: TaskView.from_document(task) for name, task in tasks.items()},
        )


@dataclass(frozen=True, slots=True)
class RunView:
    """A run.

    Attributes:
        status: `accepted`, `scheduled`, `running`, `compensating`, `completed`, `failed`, `cancelled` or
            `timed_out`.
        request_id: None if not even the acceptance of the run is known here yet.
        last_fact_at: the time of the latest event.
        paused_by: `{"by", "reason", "at"}` of the command that paused the run; None unless it is paused.
        stopped_by: `{"action", "by", "reason"}` of the command that stopped the run; None if none did.
        retry_of: the run id of the run that this one retries.
        project: None until the acceptance event has been read.
        events_from: the offset of the run's first record in its partition of `events`; None if not known.
        tasks_total: the number of tasks in the request; None if not known.
        groups: the groups with at least one event, by name.
        workers: the ids of the workers that started something of the run lately.
        failures: `{"group", "task", "index", "error_type", "message", "attempts", "time"}` of the first failures;
            a failure of a task has a `traceback` if its exception had one.
        share: completed share, from 0 to 1; None if the number of tasks is not known.
        executions, duration_seconds: of an ended run whose own view is missing or has expired, else None.
        alive: those of `workers` with a fresh heartbeat; None if they were not looked up.
        parent: the member that a sub-run is the work of: `{"run_id", "group", "task", "index", ...}`.
        children: the first sub-runs of the run: `{"run_id", "group", "task", "index", "status", "started_at",
            "ended_at"}`, in a loop with `iteration`, after a retry with `attempt`; `child_count` of all.
        definition: the definition that the run was admitted with: `{"name", "version", "hash"}`.
        forked_from: the run id of the run that this one is a fork of.
        costs: the sum of the `costs` of its tasks; of a run that has no view of its own, as in its final record.
        queued: of a queued run, the concurrency key that it waits for: `{"key", "position", "because"}`, with its
            place in the queue as it entered it, and who held the key.
        schedule: the schedule that submitted the run: `{"id", "address", "at", "source"}`.
        not_before: when a scheduled run starts, in seconds since the epoch; None for others.
        search: typed attributes of the run that a search finds it by.
        counts: of a view without groups, as the history has it: see `member_counts`; None for others.
        extra: fields that this release does not know.
    """

    run_id: str
    request_id: str | None
    session_id: str
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    status: str = "accepted"
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    last_fact_at: float | None = None
    paused: bool = False
    retry_of: str | None = None
    project: str | None = None
    events_from: int | None = None
    tasks_total: int | None = None
    groups: dict[str, GroupView] = field(default_factory=dict)
    workers: list[str] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    failure_count: int = 0
    share: float | None = None
    executions: dict[str, Any] | None = None
    duration_seconds: float | None = None
    alive: list[str] | None = None
    paused_by: dict[str, Any] | None = None
    stopped_by: dict[str, Any] | None = None
    parent: dict[str, Any] | None = None
    children: list[dict[str, Any]] | None = None
    child_count: int | None = None
    definition: dict[str, Any] | None = None
    forked_from: str | None = None
    costs: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    not_before: float | None = None
    queued: dict[str, Any] | None = None
    search: dict[str, Any] | None = None
    counts: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        return self.ended_at is not None

    @property
    def shown_status(self) -> str:
        """The status for people: `paused` for an open run that is paused."""
        return "paused" if self.paused and not self.has_ended else self.status

    def task(self, group: str, name: str) -> TaskView | None:
        """The task of a group; None if no event of it is known."""
        found = self.groups.get(group)
        return None if found is None else found.tasks.get(name)

    def path(self, group: str, name: str) -> str:
        """The name of a task for people, with the iterations of its loops: `writing[3]/draft`.

        A loop that is a whole group has the name of the group.
        """
        task = self.task(group, name)
        iteration = (task.iteration if task is not None else None) or []
        tasks, loops, loop = self.groups[group].tasks if task is not None else {}, list[str](), task
        while loop is not None and loop.in_loop is not None and len(loops) < len(iteration):
            loops.append(loop.in_loop)
            loop = tasks.get(loop.in_loop)
        return path_in_loops(group, name, loops[::-1], iteration)

    def tasks(self) -> Iterator[tuple[str, str, TaskView]]:
        """Each task, with the name of its group and its own."""
        for group_name, group in self.groups.items():
            for name, task in group.tasks.items():
                yield group_name, name, task

    def to_document(self) -> dict[str, Any]:
        """The document in the store and in HTTP answers."""
        document: dict[str, Any] = {
            "run_id": self.run_id,
            "request_id": self.request_id,
            "session_id": self.session_id,
            "name": self.name,
            "labels": self.labels,
            "status": self.status,
            "submitted_at": self.submitted_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "last_fact_at": self.last_fact_at,
            "paused": self.paused,
            "retry_of": self.retry_of,
            "project": self.project,
            "events_from": self.events_from,
            "tasks_total": self.tasks_total,
            "groups": {name: group.to_document() for name, group in self.groups.items()},
            "workers": self.workers,
            "failures": self.failures,
            "failure_count": self.failure_count,
            "share": self.share,
        }
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        return document | {name: value for name, value in optional.items() if value is not None} | self.extra

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RunView:
        """The view with this document. Views of earlier releases lack some of its fields."""
        get = document.get
        groups = get("groups") or {}
        return cls(
            run_id=document["run_id"],
            request_id=get("request_id"),
            session_id=get("session_id") or "",
            name=get("name"),
            labels=get("labels") or {},
            status=document["status"],
            submitted_at=get("submitted_at"),
            started_at=get("started_at"),
            ended_at=get("ended_at"),
            last_fact_at=get("last_fact_at"),
            paused=bool(get("paused")),
            retry_of=get("retry_of"),
            # Null means "not known yet". Only a view from before projects existed has no such field.
            project=get("project", DEFAULT_PROJECT),
            events_from=get("events_from"),
            tasks_total=get("tasks_total"),
            groups={name: GroupView.from_document(group) for name, group in groups.items()},
            workers=get("workers") or [],
            failures=get("failures") or [],
            failure_count=get("failure_count") or 0,
            share=get("share"),
            executions=get("executions"),
            duration_seconds=get("duration_seconds"),
            alive=get("alive"),
            paused_by=get("paused_by"),
            stopped_by=get("stopped_by"),
            parent=get("parent"),
            children=get("children"),
            child_count=get("child_count"),
            definition=get("definition"),
            forked_from=get("forked_from"),
            costs=get("costs"),
            schedule=get("schedule"),
            not_before=get("not_before"),
            queued=get("queued"),
            search=get("search"),
            counts=get("counts"),
            extra={name: value for name, value in document.items() if name not in _KNOWN},
        )

    @classmethod
    def of_record(cls, run_id: str, record: RunRecord) -> RunView:
        """The view without events, for a run whose own view is not written yet or has expired. For an ended run it
        also has `executions` and `duration_seconds`."""
        final: Mapping[str, Any] = record.final or {}
        return cls(
            run_id=run_id,
            request_id=record.request_id,
            session_id=record.session_id,
            name=record.name,
            labels=record.accepted.get("labels") or {},
            status=final.get("status") or _open_status(record),
            submitted_at=record.accepted_at,
            ended_at=record.ended_at,
            last_fact_at=record.ended_at or record.accepted_at,
            retry_of=record.retry_of,
            project=record.project,
            tasks_total=record.accepted.get("tasks"),
            failures=list(final.get("failures") or ()),
            failure_count=final.get("failure_count", 0),
            executions=final.get("executions"),
            duration_seconds=final.get("duration_seconds"),
            stopped_by=_without_time(final.get("stopped_by")),
            parent=record.accepted.get("parent"),
            definition=record.accepted.get("definition"),
            forked_from=record.accepted.get("forked_from"),
            costs=final.get("costs"),
            schedule=record.accepted.get("schedule"),
            search=record.accepted.get("search"),
            not_before=_not_before(record),
        )


def member_counts(view: RunView) -> dict[str, int]:
    """The numbers of groups, tasks and members of a view. Members that are not known yet are not counted."""
    tasks = [task for _, _, task in view.tasks()]
    return {
        "groups": len(view.groups),
        "tasks": max(view.tasks_total or 0, len(tasks)),
        "members": sum(task.members or 0 for task in tasks),
        "completed": sum(task.completed for task in tasks),
        "failed": sum(task.failed for task in tasks),
        "running": sum(task.running for task in tasks),
    }


def _open_status(record: RunRecord) -> str:
    is_scheduled = record.accepted.get("status") == "scheduled" and not record.is_started
    return "scheduled" if is_scheduled else "accepted"


def _not_before(record: RunRecord) -> float | None:
    found = record.accepted.get("not_before")
    return None if found is None or record.is_started else parse_timestamp(found)


_ORIGIN = ("parent", "children", "child_count", "definition", "forked_from", "schedule")


def _without_time(command: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if command is None else {name: command.get(name) for name in ("action", "by", "reason")}


_OF_STARTS = ("not_before", "queued")
_OPTIONAL = (
    "executions",
    *_OF_STARTS,
    "duration_seconds",
    "alive",
    "paused_by",
    "stopped_by",
    "costs",
    "search",
    "counts",
    *_ORIGIN,
)
_KNOWN = frozenset(each.name for each in fields(RunView)) - {"extra"}
