"""The types of the GraphQL API, and how they are made from views and documents. Pure.

Descriptions are in the schema, which `GET /graphql` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import strawberry
from strawberry.scalars import JSON as JsonScalar

from anabranch.core.waiting import waits_for
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.run_view import RunView, TaskView
from anabranch_gateway.api.serializers import counts

# The library's type of JSON cannot be made from the values that it stands for.
if TYPE_CHECKING:
    JSON: TypeAlias = Any
else:
    JSON = JsonScalar
MAX_TASKS = 100


@strawberry.type(description="A label of a run.")
class Label:
    key: str
    value: str


@strawberry.type(description="Numbers of groups, tasks and members of a run.")
class Counts:
    groups: int
    tasks: int
    members: int
    completed: int
    failed: int
    running: int


@strawberry.type(description="The first failures of a run.")
class Failure:
    group: str | None
    task: str | None
    index: int | None
    error_type: str | None
    message: str | None
    attempts: int | None


@strawberry.type(description="A task of a run, with the progress of its members.")
class RunTask:
    group: str
    name: str
    status: str
    started_at: str | None
    ended_at: str | None
    expanded: bool
    members: int | None = strawberry.field(description="Null while their number is not known.")
    completed: int
    failed: int
    running: int
    attempts: int
    share: float = strawberry.field(description="The completed share, from 0 to 1.")
    because: str | None = strawberry.field(description="Why it was skipped or cancelled.")
    costs: JSON | None = strawberry.field(description="`{usd, tokens}` of its attempts, if they reported any.")


def _tasks(root: Run, status: str | None = None) -> list[RunTask]:
    found = [
        run_task(group, name, task) for group, name, task in root.view.tasks() if status in (None, task.status)
    ]
    return found[:MAX_TASKS]


@strawberry.type(description="A run: one execution of a request.")
class Run:
    id: strawberry.ID
    request_id: str | None
    session_id: str
    name: str | None
    project: str | None
    status: str
    submitted_at: str | None
    started_at: str | None
    ended_at: str | None
    duration_seconds: float | None
    retry_of: str | None
    share: float | None
    waits_for: str | None = strawberry.field(description="What a run that does not go on waits for.")
    labels: list[Label]
    counts: Counts
    failures: list[Failure]
    costs: JSON | None
    view: strawberry.Private[RunView]

    tasks: list[RunTask] = strawberry.field(
        resolver=_tasks, description=f"Its tasks that have at least one event, at most {MAX_TASKS}."
    )


@strawberry.type(description="A page of runs, the latest first.")
class RunPage:
    nodes: list[Run]
    next_cursor: str | None = strawberry.field(description="`after` of the next page; null after the last one.")


@strawberry.type(description="A record that could not be processed.")
class DeadLetter:
    id: strawberry.ID
    code: str
    reason: str
    state: str
    signature: str
    run_id: str | None
    at: str


@strawberry.type(description="A page of dead letters, the latest first.")
class DeadLetterPage:
    nodes: list[DeadLetter]
    next_cursor: str | None


@strawberry.type(description="A schedule, which submits requests by the clock.")
class Schedule:
    id: strawberry.ID
    project: str
    paused: bool
    next: list[str] = strawberry.field(description="Its next times, in UTC.")
    fired: int
    document: JSON


@strawberry.type(description="An agent of live workers.")
class Agent:
    name: str
    document: JSON


def run_of(view: RunView, now: float) -> Run:
    """A run from its view."""
    counted = counts(view)
    return Run(
        id=strawberry.ID(view.run_id),
        request_id=view.request_id,
        session_id=view.session_id,
        name=view.name,
        project=view.project,
        status=view.shown_status,
        submitted_at=_time(view.submitted_at),
        started_at=_time(view.started_at),
        ended_at=_time(view.ended_at),
        duration_seconds=_duration(view),
        retry_of=view.retry_of,
        share=view.share,
        waits_for=_waits(view, now),
        labels=[Label(key=key, value=str(value)) for key, value in sorted(view.labels.items())],
        counts=Counts(**{name: counted[name] for name in Counts.__dataclass_fields__}),
        failures=[_failure(each) for each in view.failures],
        costs=view.costs,
        view=view,
    )


def run_task(group: str, name: str, task: TaskView) -> RunTask:
    """A task of a run from its view."""
    return RunTask(
        group=group,
        name=name,
        status=task.status,
        started_at=_time(task.started_at),
        ended_at=_time(task.ended_at),
        expanded=task.expanded,
        members=task.members,
        completed=task.completed,
        failed=task.failed,
        running=task.running,
        attempts=task.attempts,
        share=task.share,
        because=task.because,
        costs=task.costs,
    )


def _failure(found: Mapping[str, Any]) -> Failure:
    return Failure(**{name: found.get(name) for name in Failure.__dataclass_fields__})


def _waits(view: RunView, now: float) -> str | None:
    found = waits_for(view, now)
    return None if found is None else str(found)


def _duration(view: RunView) -> float | None:
    if view.duration_seconds is not None:
        return view.duration_seconds
    if view.ended_at is None or view.submitted_at is None:
        return None
    return max(0.0, view.ended_at - view.submitted_at)


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)
