"""`tasks create | list | show | update | assign | run | cancel | retry | delete | graph | plan | report`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from anabranch.cli import request_files
from anabranch.cli.backends.selection import open_tasks
from anabranch.cli.exits import COMPLETED, FAILED, STOPPED
from anabranch.cli.render.output import print_json, print_text, say
from anabranch.cli.render.tables import Column, Form, Listing, fields, show
from anabranch.cli.said import said_by
from anabranch.core.errors import Misconfigured
from anabranch.core.tasks.graphs import drawn
from anabranch.core.tasks.kinds import TaskPriority, TaskStatus, TaskType
from anabranch.core.templates import as_text

if TYPE_CHECKING:
    from anabranch.cli.backends.tasks import Document, Tasks
    from anabranch.runtime.process.settings import Settings

POLL_SECONDS = 0.2
NOTHING = "No tasks. Create one with: anabranch tasks create FILE"
_EXIT = {"completed": COMPLETED, "failed": FAILED, "cancelled": STOPPED}
_SHOWN = (
    "id",
    "name",
    "status",
    "reason",
    "task_type",
    "priority",
    "assigned_to",
    "created_by",
    "project_id",
    "deadline",
    "created_at",
    "started_at",
    "completed_at",
    "retry_count",
    "max_retries",
    "error_message",
    "result",
)


async def create(settings: Settings, file: str, by: str | None, *, json: bool) -> int:
    """Create the task, or the `tasks`, in a file. Raises RequestRefused."""
    document = request_files.load(file)
    async with open_tasks(settings) as tasks:
        created = await tasks.create(document, said_by(by, None))
    if json:
        print_json({"tasks": list(created)})
    for each in () if json else created:
        print_text(f"{each['id']}  {each['name']}")
    return COMPLETED


async def list_tasks(settings: Settings, wanted: Mapping[str, Any], *, form: Form) -> int:
    """Print the tasks that match, the newest first. Raises Misconfigured if a filter has no such value."""
    parsed = {**wanted, **_filters(wanted)}
    async with open_tasks(settings) as tasks:
        found = await tasks.list_tasks(parsed)
    show(Listing(COLUMNS, found, {"tasks": list(found)}, NOTHING), form)
    return COMPLETED


async def show_task(settings: Settings, task: str, *, json: bool) -> int:
    """Print a task. Raises TaskNotFound."""
    async with open_tasks(settings) as tasks:
        found = await tasks.task(id_of(task))
    _print_task(found, json=json)
    return COMPLETED


async def update(settings: Settings, task: str, changes: Mapping[str, Any], *, json: bool) -> int:
    """Change fields of a task that has not started. Raises RequestRefused."""
    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        raise Misconfigured("tasks update", "nothing is to be changed", "give an option such as --priority high")
    async with open_tasks(settings) as tasks:
        found = await tasks.change(id_of(task), given)
    _print_task(found, json=json)
    return COMPLETED


async def assign(settings: Settings, task: str, agent: str | None, *, json: bool) -> int:
    """Give a task to an agent; None: to any with the capability."""
    async with open_tasks(settings) as tasks:
        found = await tasks.change(id_of(task), {"assigned_to": agent})
    _print_task(found, json=json)
    return COMPLETED


async def delete(settings: Settings, task: str, *, json: bool) -> int:
    """Delete a task that has not started."""
    task_id = id_of(task)
    async with open_tasks(settings) as tasks:
        await tasks.delete(task_id)
    if json:
        print_json({"id": str(task_id), "action": "delete"})
    else:
        say(f"Task {task_id} is deleted.")
    return COMPLETED


async def start(
    settings: Settings, action: Literal["run", "retry"], task: str, agent: str | None, *, wait: bool, json: bool
) -> int:
    """Queue an execution of a task; with `wait`, print how it ended.

    Returns:
        With `wait`, 0 if it completed, 1 if it failed, 3 if it was cancelled.
    """
    task_id = id_of(task)
    async with open_tasks(settings) as tasks:
        execution = await (tasks.retry(task_id) if action == "retry" else tasks.execute(task_id, agent))
        if not wait:
            _print_execution(execution, json=json)
            return COMPLETED
        ended = await _ended(tasks, task_id)
        _print_execution(await tasks.execution(task_id), json=json)
    return _EXIT[ended["status"]]


async def cancel(settings: Settings, task: str, by: str | None, reason: str | None, *, json: bool) -> int:
    """Cancel a task. Returns 3 if it has ended or does not exist."""
    task_id = id_of(task)
    async with open_tasks(settings) as tasks:
        is_cancelled = await tasks.cancel(task_id, said_by(by, reason))
    if json:
        print_json({"task_id": str(task_id), "cancelled": is_cancelled})
    else:
        say(f"Task {task_id} " + ("is cancelled." if is_cancelled else "has ended, or does not exist."))
    return COMPLETED if is_cancelled else STOPPED


async def graph(settings: Settings, form: str) -> int:
    """Print which tasks depend on which."""
    async with open_tasks(settings) as tasks:
        found = await tasks.graph()
    if form == "json":
        print_json(dict(found))
    else:
        print_text(drawn(found, "mermaid" if form == "mermaid" else "dot").rstrip("\n"))
    return COMPLETED


async def plan(settings: Settings, *, json: bool) -> int:
    """Print in which order the open tasks run."""
    async with open_tasks(settings) as tasks:
        found = await tasks.plan()
    if json:
        print_json(dict(found))
        return COMPLETED
    for line in _plan_lines(found):
        print_text(line)
    return COMPLETED


async def report(settings: Settings, kind: str) -> int:
    """Print a report as JSON."""
    async with open_tasks(settings) as tasks:
        print_json(dict(await tasks.report(kind)))
    return COMPLETED


def id_of(task: str) -> UUID:
    """The id of a task. Raises Misconfigured."""
    try:
        return UUID(task)
    except ValueError as error:
        raise Misconfigured(
            "TASK", f"{task!r} is not the id of a task", "`anabranch tasks list` has them"
        ) from error


def _filters(wanted: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in (("status", TaskStatus), ("task_type", TaskType), ("priority", TaskPriority)):
        if (value := wanted.get(name)) is None:
            continue
        try:
            parsed = kind(value)
        except ValueError as error:
            known = ", ".join(str(each.name).lower() for each in kind)
            raise Misconfigured(f"--{name.replace('task_', '')}", f"there is no {value!r}", known) from error
        found[name] = (parsed,) if name == "status" else parsed
    return found


async def _ended(tasks: Tasks, task_id: UUID) -> Document:
    while True:
        task = await tasks.task(task_id)
        if task["status"] in _EXIT:
            return task
        await asyncio.sleep(POLL_SECONDS)


def _print_task(task: Document, *, json: bool) -> None:
    if json:
        print_json(dict(task))
        return
    for name in _SHOWN:
        if task.get(name) is not None:
            print_text(f"{name:<14}{_shown(name, task[name])}")
    for each in task["depends_on"]:
        print_text(f"{'depends on':<14}{each}")


def _print_execution(execution: Document, *, json: bool) -> None:
    if json:
        print_json(dict(execution))
        return
    print_text(f"execution {execution['execution_number']}  {execution['status']}  run {execution['run_id']}")
    for line in execution["logs"]:
        print_text(f"  {line['timestamp']}  {line['level']}  {line['message']}")
    for name in ("result", "error_message"):
        if execution.get(name) is not None:
            print_text(f"{name}: {_shown(name, execution[name])}")


def _shown(name: str, value: Any) -> str:
    """A field for people: a result as JSON, unless it is text, and a priority by its name."""
    return TaskPriority(value).name.lower() if name == "priority" else as_text(value)


def _plan_lines(found: Document) -> Iterator[str]:
    for place, phase in enumerate(found["phases"], 1):
        yield f"phase {place}: " + ", ".join(str(each["name"]) for each in phase)
    seconds = found["forecast_seconds"]
    if found["total_tasks"]:
        yield "forecast: " + ("nothing was measured yet" if seconds is None else f"{seconds:.1f} s")


COLUMNS: tuple[Column[Mapping[str, Any]], ...] = (
    *fields("id", "name", "status", "task_type"),
    Column("priority", lambda task: _shown("priority", task["priority"])),
    *fields("assigned_to", "created_at", "reason"),
)
