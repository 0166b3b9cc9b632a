"""`list`, `status`, `result`: looking at runs that were submitted before. They change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from anabranch.cli.backends.selection import reached
from anabranch.cli.commands.run import summarise
from anabranch.cli.exits import COMPLETED, code_for
from anabranch.cli.render.output import continued, count, failed_place, print_json, say, seconds
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
from anabranch.core.errors import Misconfigured
from anabranch.core.progress import percent, share_of_run
from anabranch.core.waiting import waits_for
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.reading.views import View

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings


async def list_runs(settings: Settings, *, limit: int, status: str | None, form: Form) -> int:
    """`list`: recent runs, the latest first."""
    async with reached(settings) as system:
        views = await system.views(limit)
    now = SystemClock().now()
    shown = [view | {"waits_for": waits_for(view, now)} for view in views if status in (None, view["status"])]
    nothing = "No runs. Submit one with: anabranch run FILE"
    if views and not shown:
        nothing = f"None of the latest {count(len(views), 'run')} is {status}; --limit looks at more."
    columns = RUN_COLUMNS if form is not Form.TABLE or any(map(_waits, shown)) else RUN_COLUMNS[:-1]
    show(Listing(columns, shown, {"runs": shown}, nothing), form)
    return COMPLETED


async def show_status(settings: Settings, run: str, *, form: Form) -> int:
    """`status RUN`: its view; right after its submission, or when that has expired, what else is known."""
    async with reached(settings) as system:
        view = await system.status(run)
    view = view | {"waits_for": waits_for(view, SystemClock().now())}
    if form is Form.JSON:
        print_json(view)
    elif form is Form.CSV:
        print_csv(TASK_COLUMNS, list(tasks_of(view)))
    else:
        _show_view(view)
    return COMPLETED


async def show_result(settings: Settings, run: str, key: str | None, *, timeout: float | None, json: bool) -> int:
    """`result RUN [KEY]`: how it ended, or the value of one key, which is printed as JSON in any case."""
    async with reached(settings) as system:
        result = await system.result(run, timeout)
    if result is None:
        wait = "wait for it with: anabranch result --wait 10m"
        raise Misconfigured(run, "this run has not ended, or is not known here", wait)
    if key is not None and key not in result.results:
        has = ", ".join(result.results) or "none"
        raise Misconfigured(key, f"run {result.run_id} ({result.status}) has no such result; it has: {has}")
    if key is not None:
        print_json(result.results[key])
    elif json:
        print_json(result.to_document())
    else:
        summarise(result)
    return code_for(result.status)


def tasks_of(view: View) -> Iterator[dict[str, Any]]:
    """The tasks of a view in order, each with the name of its group and its own."""
    for group, state in view.get("groups", {}).items():
        for task, told in state.get("tasks", {}).items():
            yield {"group": group, "task": task, **told}


def _show_view(view: View) -> None:
    paused = ", paused" if view.get("paused") else ""
    say(f"Run {view['run_id']}: {view['status']}{paused}{_done(view)}{_took(view, ' after ')}")
    if view.get("waits_for"):
        say(f"  waits: {view['waits_for']}")
    if view.get("retry_of"):
        say(f"  retry of {view['retry_of']}")
    for name, group in view.get("groups", {}).items():
        say(f"  {name}: {group['status']}")
        for task, state in group.get("tasks", {}).items():
            say(f"    {task}: {state['status']}{_members(state)}{_attempt(state)}")
            for told in state.get("progress") or ():
                say(f"      {_progress(told)}")
    if view.get("alive"):
        say(f"  workers with a fresh heartbeat: {', '.join(view['alive'])}")
    tracebacks = Tracebacks()
    for failure in view.get("failures") or ():
        say(f"  {failed_place(failure)}: {failure['error_type']}: {continued(failure['message'])}")
        tracebacks.say(failure.get("traceback"))


def _attempt(state: dict[str, Any]) -> str:
    """The latest attempt of a retried task: its number, its worker, its start or duration."""
    attempt = state.get("attempt")
    if attempt is None or attempt["number"] < 2:
        return ""
    began, ended = attempt["started_at"], attempt["ended_at"]
    when = f"since {moment(timestamp(began))}" if ended is None else f"took {seconds(max(0.0, ended - began))}"
    where = f" on {attempt['worker']}" if attempt["worker"] else ""
    return f", attempt {attempt['number']}{where} {when}"


def _progress(told: dict[str, Any]) -> str:
    index = "" if told["index"] is None else f"[{told['index']}] "
    return f"{index}{told['fraction']:.0%} {told['note'] or ''}".rstrip()


def _members(state: dict[str, Any]) -> str:
    held = f"{state['held']:,} held" if state.get("held") else ""
    if not state.get("expanded"):
        return f" ({held})" if held else ""
    total = state.get("members")
    done = state.get("completed", 0) + state.get("failed", 0)
    failed = f"{state['failed']:,} failed" if state.get("failed") else ""
    counted = f"{done:,} of {'?' if total is None else count(total, 'member')}"
    return f" ({', '.join(part for part in (counted, failed, held) if part)})"


def _done(view: View) -> str:
    """`, 40% done` for a run that did not complete; empty if the share is not known."""
    share = percent(share_of_run(view))
    return f", {share} done" if share and view["status"] != "completed" else ""


def _took(view: View, before: str = "") -> str:
    took = _seconds(view)
    return "" if took is None else before + seconds(took)


def _seconds(view: Mapping[str, Any]) -> float | None:
    """How long a run took, in seconds; None where it has not ended."""
    began, ended = view.get("submitted_at"), view.get("ended_at")
    return None if began is None or ended is None else round(max(0.0, ended - began), 3)


def _waits(view: Mapping[str, Any]) -> str | None:
    """The missing worker or agent that an open run waits for, as a suffix."""
    waits: str | None = view.get("waits_for")
    return waits


def _duration(value: float | None) -> str:
    return "" if value is None else seconds(value)


RUN_COLUMNS: tuple[Column[View], ...] = (
    Column("run", lambda view: view["run_id"]),
    Column("name", lambda view: view.get("name")),
    Column("status", lambda view: view["status"], style=status_style),
    Column("done", share_of_run, words=percent, justify="right"),
    Column("submitted", lambda view: timestamp(view.get("submitted_at")), words=moment),
    Column("took", _seconds, words=_duration, justify="right"),
    Column("request", lambda view: view.get("request_id")),
    Column("waits for", _waits),
)
TASK_COLUMNS: tuple[Column[Mapping[str, Any]], ...] = (
    *fields("group", "task", "status", "members", "started", "completed", "failed", "held", "attempts"),
    Column("started at", lambda task: timestamp(task.get("started_at"))),
    Column("ended at", lambda task: timestamp(task.get("ended_at"))),
)
