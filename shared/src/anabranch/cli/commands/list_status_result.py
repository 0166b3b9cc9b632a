"""`list`, `status` and `result`: print runs that were submitted before. Read-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.commands.run import summarise
from anabranch.cli.exits import COMPLETED, code_for
from anabranch.cli.render.output import continued, count, failure_location, print_json, say, seconds, used
from anabranch.cli.render.tables import (
    Column,
    Form,
    Listing,
    fields,
    moment,
    print_csv,
    show,
    status_style,
    timestamp,
)
from anabranch.cli.render.tracebacks import Tracebacks
from anabranch.core.conditions.checks import InvalidCondition
from anabranch.core.errors import Misconfigured
from anabranch.core.flow_texts import shown_status, text_of_loop, text_of_wait
from anabranch.core.progress import percent, share_of_run
from anabranch.core.run_filter import RunFilter
from anabranch.core.run_search import parse_filter
from anabranch.core.waiting import WITHOUT_WORKERS, may_lack_workers, waits_for
from anabranch.core.wire.run_view import RunView, TaskView
from anabranch.runtime.process.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.cli.backends.backend import Installation
    from anabranch.runtime.process.settings import Settings


async def list_runs(
    settings: Settings, *, limit: int, status: str | None, condition: str | None = None, form: Form
) -> int:
    """Print runs, the latest first.

    Raises:
        Misconfigured: the condition is no filter.
    """
    wanted = RunFilter(condition=None if condition is None else parsed_filter(condition))
    async with open_installation(settings) as system:
        every = await system.views(limit, wanted)
        views = [view for view in every if status in (None, view.status)]
        waits = await _waits(system, views)
    shown = [ListedRun(view, waits) for view, waits in zip(views, waits, strict=True)]
    nothing = "No runs. Submit one with: anabranch run FILE"
    if condition is not None:
        nothing = "No run meets the filter."
    if every and not shown:
        nothing = f"None of the latest {count(len(every), 'run')} is {status}; search more runs with --limit."
    # The last column, `waits for`, is omitted from the table if it is empty; CSV has fixed columns.
    columns = RUN_COLUMNS if form is not Form.TABLE or any(row.waits for row in shown) else RUN_COLUMNS[:-1]
    document = {"runs": [row.to_document() for row in shown]} if form is Form.JSON else {}
    show(Listing(columns, shown, document, nothing), form)
    return COMPLETED


def parsed_filter(condition: str) -> Any:
    """The data form of the option `--filter`."""
    try:
        return parse_filter(condition)
    except InvalidCondition as error:
        raise Misconfigured("--filter", str(error)) from error


async def show_status(settings: Settings, run: str, *, form: Form) -> int:
    """Print the view of a run. Without a view (just submitted, or expired), print what its run record has."""
    async with open_installation(settings) as system:
        view = await system.status(run)
        [waits] = await _waits(system, [view])
    if form is Form.JSON:
        print_json(ListedRun(view, waits).to_document())
    elif form is Form.CSV:
        print_csv(TASK_COLUMNS, list(tasks_of(view)))
    else:
        _show_view(view, waits)
    return COMPLETED


async def _waits(system: Installation, views: Sequence[RunView]) -> list[str | None]:
    """What each run waits for. Reads the list of workers if one of them may lack any worker."""
    now = SystemClock().now()
    found = [waits_for(view, now) for view in views]
    lacking = [each is None and may_lack_workers(view) for view, each in zip(views, found, strict=True)]
    if not any(lacking) or await system.workers():
        return found
    return [WITHOUT_WORKERS if lacks else each for lacks, each in zip(lacking, found, strict=True)]


async def show_result(settings: Settings, run: str, key: str | None, *, timeout: float | None, json: bool) -> int:
    """Print the outcome of a run, or the value of one key as JSON.

    Raises:
        Misconfigured: the run has not ended, does not exist, or has no such key.
    """
    async with open_installation(settings) as system:
        result = await system.result(run, timeout)
    if result is None:
        wait = "wait for its end with: anabranch result RUN --wait 10m"
        raise Misconfigured(run, "the run has not ended, or there is no such run", wait)
    if key is not None and key not in result.results:
        keys = ", ".join(result.results) or "none"
        raise Misconfigured(key, f"run {result.run_id} ({result.status}) has no such result; its keys: {keys}")
    if key is not None:
        print_json(result.results[key])
    elif json:
        print_json(result.to_document())
    else:
        summarise(result)
    return code_for(result.status)


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run as it is shown. `waits`: the missing worker or agent that it waits for."""

    view: RunView
    waits: str | None

    def to_document(self) -> dict[str, Any]:
        return self.view.to_document() | {"waits_for": self.waits}


def tasks_of(view: RunView) -> Iterator[dict[str, Any]]:
    """The tasks of a view in order, each with the name of its group and its own."""
    for group, name, task in view.tasks():
        yield {"group": group, "task": name, "path": view.path(group, name), **task.to_document()}


def _show_view(view: RunView, waits: str | None) -> None:
    paused = ", paused" if view.paused else ""
    say(f"Run {view.run_id}: {view.status}{paused}{_done(view)}{_took(view, ' after ')}")
    if view.paused_by:
        say(f"  paused{_said(view.paused_by)}")
    if view.stopped_by:
        say(f"  {view.stopped_by['action']}{_said(view.stopped_by)}")
    if waits:
        say(f"  waits: {waits}")
    if view.costs:
        say(f"  used {used(view.costs)}")
    if view.retry_of:
        say(f"  retry of {view.retry_of}")
    if view.forked_from:
        say(f"  fork of {view.forked_from}")
    if view.definition:
        say(f"  definition {view.definition['name']}@{view.definition['version']}")
    if view.parent:
        say(f"  sub-run of {view.parent['run_id']}, {view.parent['group']}/{view.parent['task']}")
    for child in view.children or ():
        index = "" if child["index"] is None else f"[{child['index']}]"
        say(f"  sub-run {child['run_id']} of {child['group']}/{child['task']}{index}{_child_status(child)}")
    for group_name, group in view.groups.items():
        say(f"  {group_name}: {group.status}")
        for name, task in group.tasks.items():
            path = view.path(group_name, name)
            state = (
                f"{shown_status(task)}{_members(task)}{_attempt(task)}{_flow(task)}{_because(task)}{_used(task)}"
            )
            say(f"    {path}: {state}")
            for progress in task.progress:
                say(f"      {_progress(progress)}")
    if view.alive:
        say(f"  live workers: {', '.join(view.alive)}")
    tracebacks = Tracebacks()
    for failure in view.failures:
        say(f"  {failure_location(failure)}: {failure['error_type']}: {continued(failure['message'])}")
        tracebacks.say(failure.get("traceback"))


def _said(command: Mapping[str, Any]) -> str:
    """Who gave a command, and why."""
    by = f" by {command['by']}" if command.get("by") else ""
    return by + (f": {continued(command['reason'])}" if command.get("reason") else "")


def _child_status(child: Mapping[str, Any]) -> str:
    return f": {child['status']}" if child.get("status") else ""


def _flow(task: TaskView) -> str:
    """The iterations of a loop, what ended a wait, and what the members of a task wait for since when."""
    parts = [text_of_loop(task.loop)] if task.loop is not None else []
    parts += [f"ended by {task.ended_by}"] if task.ended_by is not None else []
    if task.waits:
        since = moment(timestamp(min(wait["since"] for wait in task.waits)))
        more = f" and {len(task.waits) - 1} more" if len(task.waits) > 1 else ""
        parts.append(f"waits for {text_of_wait(task.waits[0])}{more} since {since}")
    return "".join(f", {part}" for part in parts)


def _used(task: TaskView) -> str:
    return f", used {used(task.costs)}" if task.costs else ""


def _because(task: TaskView) -> str:
    return f": {continued(task.because)}" if task.because else ""


def _attempt(task: TaskView) -> str:
    """The latest attempt of a retried task: its number, its worker, its start or duration."""
    attempt = task.attempt
    if attempt is None or attempt.number < 2:
        return ""
    began, ended = attempt.started_at, attempt.ended_at
    when = f"since {moment(timestamp(began))}" if ended is None else f"took {seconds(max(0.0, ended - began))}"
    where = f" on {attempt.worker}" if attempt.worker else ""
    return f", attempt {attempt.number}{where} {when}"


def _progress(progress: dict[str, Any]) -> str:
    index = "" if progress["index"] is None else f"[{progress['index']}] "
    return f"{index}{progress['fraction']:.0%} {progress['note'] or ''}".rstrip()


def _members(task: TaskView) -> str:
    held = f"{task.held:,} held" if task.held else ""
    if not task.expanded:
        return f" ({held})" if held else ""
    failed = f"{task.failed:,} failed" if task.failed else ""
    counted = f"{task.ended:,} of {'?' if task.members is None else count(task.members, 'member')}"
    return f" ({', '.join(part for part in (counted, failed, held) if part)})"


def _done(view: RunView) -> str:
    """`, 40% done` for a run that did not complete; empty if the share is not known."""
    share = percent(share_of_run(view))
    return f", {share} done" if share and view.status != "completed" else ""


def _took(view: RunView, before: str = "") -> str:
    took = _seconds(view)
    return "" if took is None else before + seconds(took)


def _seconds(view: RunView) -> float | None:
    """Duration of a run in seconds; None if it has not ended."""
    began, ended = view.submitted_at, view.ended_at
    return None if began is None or ended is None else round(max(0.0, ended - began), 3)


def _duration(value: float | None) -> str:
    return "" if value is None else seconds(value)


RUN_COLUMNS: tuple[Column[ListedRun], ...] = (
    Column("run", lambda row: row.view.run_id),
    Column("name", lambda row: row.view.name),
    Column("status", lambda row: row.view.status, style=status_style),
    Column("done", lambda row: share_of_run(row.view), words=percent, justify="right"),
    Column("submitted", lambda row: timestamp(row.view.submitted_at), words=moment),
    Column("took", lambda row: _seconds(row.view), words=_duration, justify="right"),
    Column("request", lambda row: row.view.request_id),
    Column("waits for", lambda row: row.waits),
)
TASK_COLUMNS: tuple[Column[Mapping[str, Any]], ...] = (
    *fields("group", "task", "status", "members", "started", "completed", "failed", "held", "attempts"),
    Column("started at", lambda task: timestamp(task.get("started_at"))),
    Column("ended at", lambda task: timestamp(task.get("ended_at"))),
    Column("path", lambda task: task["path"]),
)
