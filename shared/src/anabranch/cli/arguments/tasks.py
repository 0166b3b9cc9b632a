"""Arguments of `tasks`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from anabranch.cli.arguments.options import By, Json, Load, Output, Reason, with_system
from anabranch.cli.arguments.running import run_and_exit
from anabranch.cli.exits import errors_as_exit
from anabranch.cli.render.tables import form_of

app = typer.Typer(
    help="Tasks: units of work that agents take by what they can do, kept in a database.", no_args_is_help=True
)

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="Id of the task.")]
Priority = Annotated[str | None, typer.Option(help="low, normal, high, urgent or critical.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for its end, and print how it ended.")]


class GraphFormat(StrEnum):
    """Output form of `tasks graph`."""

    JSON = "json"
    DOT = "dot"
    MERMAID = "mermaid"


class Report(StrEnum):
    """What `tasks report` prints."""

    METRICS = "metrics"
    PERFORMANCE = "performance"
    QUEUE = "queue"


@app.command()
@with_system
def create(
    settings: Load,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A task, or `tasks`, as JSON or YAML; - for standard input.")
    ],
    by: By = None,
    json: Json = False,
) -> None:
    """Create a task, or several in one transaction."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.create(settings(), file, by, json=json))


@app.command("list")
@with_system
def list_(
    settings: Load,
    status: Annotated[str | None, typer.Option(help="Only tasks with this status.")] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="Only tasks of this type.")] = None,
    priority: Priority = None,
    assigned_to: Annotated[str | None, typer.Option(help="Only tasks of this agent.")] = None,
    project_id: Annotated[str | None, typer.Option(help="Only tasks of this project.")] = None,
    text: Annotated[str | None, typer.Option(help="Only tasks with this in their names.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 100,
    output: Output = None,
    json: Json = False,
) -> None:
    """List tasks, the newest first."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        wanted = {
            "status": status,
            "task_type": task_type,
            "priority": priority,
            "assigned_to": assigned_to,
            "project_id": project_id,
            "text": text,
            "limit": limit,
        }
        run_and_exit(tasks.list_tasks(settings(), wanted, form=form_of(output, json)))


@app.command()
@with_system
def show(settings: Load, task: TaskId, json: Json = False) -> None:
    """Show a task."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.show_task(settings(), task, json=json))


@app.command()
@with_system
def update(
    settings: Load,
    task: TaskId,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    description: Annotated[str | None, typer.Option(help="A new description.")] = None,
    priority: Priority = None,
    deadline: Annotated[str | None, typer.Option(metavar="TIME", help="A new deadline, RFC 3339.")] = None,
    depends_on: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="The tasks to wait for, in place of all; repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Change a task that has not started."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        changes = {
            "name": name,
            "description": description,
            "priority": priority,
            "deadline": deadline,
            "depends_on": depends_on or None,
        }
        run_and_exit(tasks.update(settings(), task, changes, json=json))


@app.command()
@with_system
def assign(
    settings: Load,
    task: TaskId,
    agent: Annotated[
        str | None, typer.Argument(metavar="[AGENT]", help="Without it, any agent with the capability.")
    ] = None,
    json: Json = False,
) -> None:
    """Give a task to an agent."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.assign(settings(), task, agent, json=json))


@app.command()
@with_system
def run(
    settings: Load,
    task: TaskId,
    agent: Annotated[str | None, typer.Option(help="The agent, in place of the assigned one.")] = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Start a task, or queue it if no slot or no agent is free."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.start(settings(), "run", task, agent, wait=wait, json=json))


@app.command()
@with_system
def retry(settings: Load, task: TaskId, wait: Wait = False, json: Json = False) -> None:
    """Start a failed task again."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.start(settings(), "retry", task, None, wait=wait, json=json))


@app.command()
@with_system
def cancel(settings: Load, task: TaskId, by: By = None, reason: Reason = None, json: Json = False) -> None:
    """Cancel a task."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.cancel(settings(), task, by, reason, json=json))


@app.command()
@with_system
def delete(settings: Load, task: TaskId, json: Json = False) -> None:
    """Delete a task that has not started."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.delete(settings(), task, json=json))


@app.command()
@with_system
def graph(
    settings: Load,
    format_: Annotated[GraphFormat, typer.Option("--format", help="Output form.")] = GraphFormat.MERMAID,
) -> None:
    """Print which tasks depend on which."""
    with errors_as_exit(False):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.graph(settings(), format_))


@app.command()
@with_system
def plan(settings: Load, json: Json = False) -> None:
    """Print in which order the open tasks run, and how long that takes by measured durations."""
    with errors_as_exit(json):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.plan(settings(), json=json))


@app.command()
@with_system
def report(
    settings: Load,
    kind: Annotated[
        Report, typer.Argument(metavar="KIND", help="metrics, performance or queue.")
    ] = Report.METRICS,
) -> None:
    """Print a report about tasks as JSON."""
    with errors_as_exit(True):
        from anabranch.cli.commands import tasks

        run_and_exit(tasks.report(settings(), kind))
