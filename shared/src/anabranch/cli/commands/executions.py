"""`executions schedule | list | show | cancel | stats`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from anabranch.cli import request_files
from anabranch.cli.backends.selection import open_executions
from anabranch.cli.exits import COMPLETED, FAILED, STOPPED
from anabranch.cli.render.output import print_json, print_text, say
from anabranch.cli.render.tables import Column, Form, Listing, fields, show
from anabranch.cli.said import said_by
from anabranch.core.errors import Code, Misconfigured, Problem, RequestRefused
from anabranch.core.executions.kinds import TaskExecutionStatus

if TYPE_CHECKING:
    from anabranch.cli.backends.executions import Document, Executions
    from anabranch.runtime.process.settings import Settings

POLL_SECONDS = 0.2
NOTHING = "No executions. Schedule one with: anabranch executions schedule FILE"
_ENDED = frozenset(str(each) for each in TaskExecutionStatus if each.has_ended)
_SHOWN = (
    "execution_id",
    "task_id",
    "task_name",
    "status",
    "reason",
    "priority",
    "workflow_type",
    "retry_strategy",
    "scheduled_time",
    "created_at",
    "started_at",
    "completed_at",
    "retry_count",
    "max_retries",
    "executor",
    "run_id",
    "error",
    "result",
)


async def schedule(settings: Settings, file: str, *, wait: bool, json: bool) -> int:
    """Schedule what a file names.

    Returns:
        1 if a task of `task_ids` could not be scheduled. With `wait`, 1 if an execution failed or timed out, and 3
        if one was cancelled.

    Raises:
        RequestRefused: nothing was scheduled.
    """
    document = request_files.load(file)
    if not isinstance(document, Mapping):
        raise RequestRefused([Problem(str(Code.SCHEMA), "", "an execution is an object")])
    async with open_executions(settings) as executions:
        made = await executions.schedule(document)
        if wait:
            made = await _when_ended(executions, made)
    if json:
        print_json(dict(made))
    else:
        for each in _made(made):
            print_text(_line(each))
        for each in made.get("failed", ()):
            say(f"{each['task_id']}: {each['error']}")
    if made.get("failed"):
        return FAILED
    return _code(_made(made)) if wait else COMPLETED


async def list_executions(settings: Settings, wanted: Mapping[str, Any], *, form: Form) -> int:
    """Print the executions that match, the newest first. Raises Misconfigured if there is no such status."""
    status = wanted["status"]
    if status is not None and status not in set(TaskExecutionStatus):
        raise Misconfigured("--status", f"there is no {status!r}", ", ".join(TaskExecutionStatus))
    if wanted["task_id"] is not None:
        id_of("--task", wanted["task_id"], "`anabranch tasks list` has them")
    async with open_executions(settings) as executions:
        found = await executions.list_executions(wanted)
    show(Listing(COLUMNS, found["executions"], dict(found), NOTHING), form)
    return COMPLETED


async def show_execution(settings: Settings, execution: str, *, json: bool) -> int:
    """Print an execution. Raises TaskNotFound."""
    execution_id = id_of("EXECUTION", execution)
    async with open_executions(settings) as executions:
        found = await executions.execution(execution_id)
    if json:
        print_json(dict(found))
        return COMPLETED
    for name in _SHOWN:
        if found.get(name) is not None:
            print_text(f"{name:<16}{found[name]}")
    for each in found["dependencies"]:
        print_text(f"{'depends on':<16}{each}")
    return COMPLETED


async def cancel(settings: Settings, execution: str, by: str | None, reason: str | None, *, json: bool) -> int:
    """Cancel an execution, and those that depend on it. Returns 3 if it has ended."""
    execution_id = id_of("EXECUTION", execution)
    async with open_executions(settings) as executions:
        answer = await executions.cancel(execution_id, said_by(by, reason))
    if json:
        print_json(dict(answer))
    else:
        say(f"{answer['message']}.")
    return COMPLETED if answer["success"] else STOPPED


async def stats(settings: Settings, *, json: bool) -> int:
    """Print the number of executions in each status."""
    async with open_executions(settings) as executions:
        found = await executions.statistics()
    if json:
        print_json(dict(found))
        return COMPLETED
    for status, count in found["status_counts"].items():
        print_text(f"{status:<12}{count:>8}")
    print_text(f"{'total':<12}{found['total_count']:>8}")
    return COMPLETED


def id_of(what: str, execution: str, fix: str = "`anabranch executions list` has them") -> str:
    """The id of an execution, checked. Raises Misconfigured."""
    try:
        return str(UUID(execution))
    except ValueError as error:
        raise Misconfigured(what, f"{execution!r} is not an id", fix) from error


def _made(made: Document) -> Sequence[Document]:
    """The executions in the answer to a schedule."""
    for name in ("executions", "successful"):
        if name in made:
            found: Sequence[Document] = made[name]
            return found
    return [made]


async def _when_ended(executions: Executions, made: Document) -> Document:
    """The answer to a schedule, with the executions as they are when all have ended."""
    ended = [await _ended(executions, each["execution_id"]) for each in _made(made)]
    for name in ("executions", "successful"):
        if name in made:
            return {**made, name: ended}
    return ended[0]


async def _ended(executions: Executions, execution_id: str) -> Document:
    while True:
        found = await executions.execution(execution_id)
        if found["status"] in _ENDED:
            return found
        await asyncio.sleep(POLL_SECONDS)


def _code(ended: Sequence[Document]) -> int:
    statuses = {each["status"] for each in ended}
    if statuses & {"failed", "timeout"}:
        return FAILED
    return STOPPED if "cancelled" in statuses else COMPLETED


def _line(execution: Document) -> str:
    text = f"{execution['execution_id']}  {execution['status']}  {execution['task_name']}"
    return text if execution["error"] is None else f"{text}: {execution['error']}"


COLUMNS: tuple[Column[Mapping[str, Any]], ...] = (
    *fields("execution_id", "task_name", "status", "priority"),
    Column("retries", lambda execution: execution["retry_count"], justify="right"),
    *fields("created_at", "reason"),
)
