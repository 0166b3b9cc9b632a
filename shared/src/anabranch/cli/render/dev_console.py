"""Console output of `dev`: starts and ends of runs, failed members, and log lines of agents.

Each log line begins with its member, `run/group/task[index]`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from anabranch.cli.render.output import count, say, seconds, short, short_line
from anabranch.cli.render.tracebacks import Tracebacks
from anabranch.core.errors import ServerUnavailable
from anabranch.core.wire.events import EventBatch, EventEntry, decode_batch
from anabranch.runtime.instrumentation.correlation import work_ids, working_for
from anabranch.runtime.process.logs import ATTEMPTS_LOGGER

if TYPE_CHECKING:
    from anabranch.core.names import Names
    from anabranch.ports import EventLog
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.agents import AgentDeclaration
    from anabranch.sdk.task import Task

AGENTS = "anabranch.agent"
MAX_FAILURES = 5
"""Failures of one run that are printed one by one."""
_ENDS = {"run.completed", "run.failed", "run.cancelled", "run.timed_out"}
_MESSAGES = {
    "run.scheduled": "waits for its time",
    "run.queued": "waits for a concurrency key",
    "run.started": "starts now",
    "run.paused": "paused",
    "run.resumed": "resumed",
    "run.compensating": "compensates",
}
_OF_A_LINE = frozenset({"run", "group", "task", "member", "attempt"})
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


# --- runs ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    began: float
    failures: int = 0
    tracebacks: Tracebacks = field(default_factory=Tracebacks)


class RunLines:
    """Turns batches of events into console lines. Pure."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def lines(self, batch: EventBatch) -> Iterator[str]:
        """The console lines of a batch of events."""
        run = self._open.get(batch.run_id)
        for entry in batch.entries:
            if entry.type == "run.accepted" and run is None:
                run = self._open[batch.run_id] = _Open(entry.time)
                yield _started(batch, entry)
            elif run is None:
                continue  # the run was accepted before this console was opened
            elif entry.type == "task.failed":
                yield from _failed(run, batch, entry)
            elif entry.type in _MESSAGES:
                yield f"Run {batch.run_id} {_MESSAGES[entry.type]}."
            elif entry.type in _ENDS:
                del self._open[batch.run_id]
                yield _ended(run, batch, entry)
                run = None


def _started(batch: EventBatch, entry: EventEntry) -> str:
    name = entry.data.get("name")
    known = f" ({short_line(str(name), 80)})" if name else ""
    of = f", a retry of {entry.data['retry_of']}" if entry.data.get("retry_of") else ""
    return f"Run {batch.run_id}{known} started: {count(entry.data.get('tasks') or 0, 'task')}{of}."


def _failed(run: _Open, batch: EventBatch, entry: EventEntry) -> Iterator[str]:
    if entry.data.get("dismissed"):
        return
    spans = entry.spans or ()
    index = entry.index if not spans else spans[0][0]
    members = sum(stop - start for start, stop in spans) or 1
    run.failures += members
    if run.failures - members < MAX_FAILURES:
        more = f" (and {members - 1:,} more members)" if members > 1 else ""
        error = f"{entry.data.get('error_type')}: {short_line(str(entry.data.get('message') or ''))}"
        yield f"{member_path(batch.run_id, entry.group, entry.task, index)} failed: {error}{more}"
        yield from run.tracebacks.lines(entry.data.get("traceback"))
        if run.failures >= MAX_FAILURES:
            yield f"Run {batch.run_id}: further failures are not shown here. See: anabranch status {batch.run_id}"


def _ended(run: _Open, batch: EventBatch, entry: EventEntry) -> str:
    words = entry.type.removeprefix("run.").replace("_", " ")
    done = entry.data.get("executions") or {}
    failed = f", {done['failed']:,} failed" if done.get("failed") else ""
    skipped = f", {done['skipped']:,} skipped" if done.get("skipped") else ""
    of = f"{done.get('completed', 0):,} of {count(done.get('total', 0), 'execution')} completed{failed}{skipped}"
    return f"Run {batch.run_id} {words} in {seconds(max(0.0, entry.time - run.began))}: {of}."


def member_path(run: str, group: str | None, task: str | None, index: int | None) -> str:
    """The member as `run/group/task[index]`, without the parts that are not known."""
    path = "/".join(part for part in (run, group, task) if part)
    return path if index is None else f"{path}[{index}]"


@asynccontextmanager
async def show_runs(log: EventLog, names: Names) -> AsyncIterator[None]:
    """Print the start and the end of each run while the context is open."""
    opened = asyncio.Event()
    reading = asyncio.create_task(_read(log, names, opened), name="console")
    waiting = asyncio.create_task(opened.wait())
    try:
        # Waits for the reader to be open, else the first runs would have no line; ends at once if it fails.
        await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        yield
    finally:
        waiting.cancel()
        reading.cancel()
        for outcome in await asyncio.gather(reading, waiting, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, ServerUnavailable):
                raise outcome


async def _read(log: EventLog, names: Names, opened: asyncio.Event) -> None:
    console = RunLines()
    async with log.read(names.events) as reader:
        opened.set()
        async for records in reader:
            for record in records:
                try:
                    batch = decode_batch(record.value)
                except ValidationError:  # a subscription or a foreign record, not an event
                    continue
                for line in console.lines(batch):
                    say(line)


# --- lines that agents log -----------------------------------------------------------------------


@contextmanager
def console_logging(settings: Settings) -> Iterator[None]:
    """Print log lines of agents with their member, and warnings and errors of everything else."""
    if settings.log_format == "json":
        from anabranch.runtime.process.logs import set_up_logging

        set_up_logging(settings.log_level, "json")
        yield
        return
    root, handler = logging.getLogger(), AgentLines()
    before = root.level
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


class AgentLines(logging.Handler):
    """Log handler: prints each record on one line, after its member."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == ATTEMPTS_LOGGER.name:
            return  # printed from the run's events already
        member = _member_of(record)
        if not member and record.levelno < logging.WARNING:
            return  # routine messages of services and libraries
        try:
            line = _line(record, member)
        except Exception as error:  # noqa: BLE001  # a format or a __str__ of the agent's own
            problem = f"cannot format this log line: {type(error).__name__}"
            line = f"{record.levelname:8}{member or record.name}  {problem}"
        say(line)


def with_member_ids(declared: AgentDeclaration) -> AgentDeclaration:
    """Wrap an agent so that its lines in any logger have their member."""
    handler = declared.handler

    async def call_async(task: Task) -> Any:
        with working_for(**work_ids(), **_member_ids(task)):
            return await handler(task)

    def call(task: Task) -> Any:
        with working_for(**work_ids(), **_member_ids(task)):
            return handler(task)

    return replace(declared, handler=call_async if declared.is_async else call)


def _member_ids(task: Task) -> dict[str, str]:
    index = {} if task.index is None else {"index": str(task.index)}
    return index | ({"attempt": str(task.attempt)} if task.attempt > 1 else {})


def _line(record: logging.LogRecord, member: str) -> str:
    at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD | _OF_A_LINE}
    shown = "".join(
        f" {name}={value if isinstance(value, str) else short(value)}" for name, value in extra.items()
    )
    trace = "" if not record.exc_info else "\n" + logging.Formatter().formatException(record.exc_info)
    return f"{at} {record.levelname:8}{member or record.name}  {record.getMessage()}{shown}{trace}"


def _member_of(record: logging.LogRecord) -> str:
    """The member of a log line: from `task.log`, else from the context that the code runs in."""
    if record.name == AGENTS and hasattr(record, "member"):
        known: Mapping[str, Any] = vars(record)
        attempt = f" attempt {known['attempt']}" if known.get("attempt", 1) > 1 else ""
        return member_path(known["run"], known["group"], known["task"], _index(known)) + attempt
    ids = work_ids()
    if not {"run", "group", "task"} <= ids.keys():
        return ""
    index = int(ids["index"]) if "index" in ids else None
    attempt = f" attempt {ids['attempt']}" if "attempt" in ids else ""
    return member_path(ids["run"], ids["group"], ids["task"], index) + attempt


def _index(known: Mapping[str, Any]) -> int | None:
    """The index of a member, from its name: the task's name and the member's number, counted from 1."""
    number = str(known["member"]).removeprefix(f"{known['task']}_")
    return int(number) - 1 if known["member"] != known["task"] and number.isdigit() else None
