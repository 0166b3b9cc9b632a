"""Follows a run until it ends: shows its progress, writes its events, and cancels it on Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.cli.backends.backend import FollowedRun
from anabranch.cli.events_file import EventsFile, Lines
from anabranch.cli.exits import STOPPED
from anabranch.cli.interrupts import on_interrupt
from anabranch.cli.render.live_view import View
from anabranch.cli.render.progress import RunProgress
from anabranch.core.waiting import NOTICE_SECONDS
from anabranch.core.wire.events import EventSequence
from anabranch.sdk.run_events import shown
from anabranch.sdk.run_result import RunResult, no_executions

if TYPE_CHECKING:
    from anabranch.core.request.planning import Plan

SILENCE_SECONDS = NOTICE_SECONDS
"""Seconds without a response from the system, after which a note is printed."""
POLL_SECONDS = 0.5
"""Interval of the check for missing agents and workers, in seconds."""
LAG_SECONDS = 0.5
"""Seconds that the view waits for the last events after the run has ended."""
LATE_SECONDS = 10.0
"""Seconds after the run's own timeout within which the final record is expected. Then the command stops
waiting."""


@dataclass(frozen=True, slots=True)
class Following:
    """How to follow a run. `timeout` is the run's own timeout in seconds, if the command set one."""

    view: View
    plan: Plan | None = None
    timeout: float | None = None
    events_file: Lines | None = None


async def follow(run: FollowedRun, following: Following) -> RunResult:
    """Wait for the end of a run. The first interrupt cancels the run; a second one ends the process at once.

    Raises:
        ServerUnavailable: a value of the result cannot be read.
    """
    # Events are only shown: the end of the run comes from its final record, because an event may be lost.
    with following.view as view, on_interrupt(_cancel(run, view), _exit_at_once):
        progress = RunProgress.of_plan(run.run_id, following.plan)
        watching = asyncio.create_task(watch(run, following, progress))
        silence = asyncio.create_task(_report_silence(run, view))
        waits = asyncio.create_task(_show_waits(progress, view))
        try:
            ended = await _until_ended(run, following.timeout)
            await asyncio.wait({watching}, timeout=None if _needs_all_events(following, ended) else LAG_SECONDS)
        finally:
            await _cancel_all(watching, silence, waits)
    return await run.result() if ended else _without_final_record(run)


def _needs_all_events(following: Following, ended: str | None) -> bool:
    """True if every event has to be written and a last event is certain to arrive."""
    return following.events_file is not None and ended not in (None, "rejected")


async def _until_ended(run: FollowedRun, timeout: float | None) -> str | None:
    try:
        return await run.ended(None if timeout is None else timeout + LATE_SECONDS)
    except TimeoutError:
        return None


def _without_final_record(run: FollowedRun) -> RunResult:
    """Result of a run without a final record in time, probably because no service runs. The run may end later."""
    return RunResult(
        run_id=run.run_id,
        request_id=run.request_id or "",
        session_id=run.session_id or "",
        status="timed_out",
        executions=no_executions(),
        warnings=(*run.warnings, "no final record arrived in time: check that `anabranch agency` runs"),
    )


async def watch(run: FollowedRun, following: Following, progress: RunProgress | None = None) -> None:
    """Show a run's progress and write its events until its last event. `progress` counts the events."""
    progress = progress or RunProgress.of_plan(run.run_id, following.plan)
    sequence = EventSequence()
    following.view.update(progress)
    async with contextlib.aclosing(run.event_batches()) as batches:
        async for batch in batches:
            if following.events_file is not None:
                lines = [orjson.dumps(shown(event)) + b"\n" for event in sequence.read(batch)]
                following.events_file.write(b"".join(lines))
                following.events_file.flush()
            progress.apply(batch)
            following.view.update(progress)


async def _show_waits(progress: RunProgress, view: View) -> None:
    loop = asyncio.get_running_loop()
    unstarted: float | None = None
    while True:
        await asyncio.sleep(POLL_SECONDS)
        if not progress.is_unstarted:
            unstarted = None
        elif unstarted is None:
            unstarted = loop.time()
        view.waits(progress.waits_for(None if unstarted is None else loop.time() - unstarted))


async def _report_silence(run: FollowedRun, view: View) -> None:
    await asyncio.sleep(SILENCE_SECONDS)
    if not run.acknowledged:
        view.note(
            "No answer yet: the request is on the requests topic and starts when an Agency reads it. "
            "Check that `anabranch agency` runs with this prefix."
        )


def _cancel(run: FollowedRun, view: View) -> Callable[[], None]:
    background: set[asyncio.Task[None]] = set()

    def cancel() -> None:
        view.note("Cancelling the run; press Ctrl-C again to quit at once.")
        # Kept in a set, because asyncio holds only weak references to tasks.
        background.add(asyncio.ensure_future(run.cancel()))

    return cancel


def _exit_at_once() -> None:
    os._exit(STOPPED)  # sys.exit would wait for threads of agents that are still running


async def _cancel_all(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks. Raise an error of one of them, such as of the view: it is a bug, not an outcome."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


@contextlib.asynccontextmanager
async def open_events_file(path: Path | None) -> AsyncIterator[EventsFile | None]:
    """Create the events file, overwriting an existing one. Yields None without a path.

    Raises:
        Misconfigured: the file cannot be written.
    """
    if path is None:
        yield None
        return
    file = EventsFile.create(path)
    try:
        yield file
    finally:
        file.close()
