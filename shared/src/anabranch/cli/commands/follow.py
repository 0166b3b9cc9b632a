"""Follows a run to its end: shows it, writes its events, and turns interrupts into a clean cancellation."""

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

QUIET_SECONDS = NOTICE_SECONDS
"""After which it is said that nobody has answered."""
POLL_SECONDS = 0.5
"""Seconds between two checks whether the run lacks an agent or a worker."""
LAG_SECONDS = 0.5
"""How long the view waits for the last events once the run has ended."""
LATE_SECONDS = 10.0
"""How long the final record may come after the run's own timeout before nobody is expected to write one."""


@dataclass(frozen=True, slots=True)
class Following:
    """How a run is followed. `timeout` is the run's own, in seconds, where the command set one."""

    view: View
    plan: Plan | None = None
    timeout: float | None = None
    events_file: Lines | None = None


async def follow(run: FollowedRun, following: Following) -> RunResult:
    """Wait for the end of a run. The first interrupt cancels it and waits on; a second one leaves at once.

    Raises:
        ServerUnavailable: a value of the result cannot be read.
    """
    with following.view as view, on_interrupt(_cancel(run, view), _leave):
        progress = RunProgress.of_plan(run.run_id, following.plan)
        watching = asyncio.create_task(watch(run, following, progress))
        nagging = asyncio.create_task(_say_when_nobody_answers(run, view))
        looking = asyncio.create_task(_say_what_it_waits_for(progress, view))
        try:
            ended = await _until_ended(run, following.timeout)
            await asyncio.wait({watching}, timeout=None if _all_events(following, ended) else LAG_SECONDS)
        finally:
            await _stopped(watching, nagging, looking)
    return await run.result() if ended else _given_up(run)


def _all_events(following: Following, ended: str | None) -> bool:
    """Whether every event is wanted and there will be a last one."""
    return following.events_file is not None and ended not in (None, "rejected")


async def _until_ended(run: FollowedRun, timeout: float | None) -> str | None:
    try:
        return await run.ended(None if timeout is None else timeout + LATE_SECONDS)
    except TimeoutError:
        return None


def _given_up(run: FollowedRun) -> RunResult:
    """No final record came: the services are away. The run may still end later."""
    return RunResult(
        run_id=run.run_id,
        request_id=run.request_id or "",
        session_id=run.session_id or "",
        status="timed_out",
        executions=no_executions(),
        warnings=(*run.warnings, "no final record came: is an agency running?"),
    )


async def watch(run: FollowedRun, following: Following, progress: RunProgress | None = None) -> None:
    """Show a run and write its events until it has ended; `progress` counts them."""
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


async def _say_what_it_waits_for(progress: RunProgress, view: View) -> None:
    loop = asyncio.get_running_loop()
    unbegun: float | None = None
    while True:
        await asyncio.sleep(POLL_SECONDS)
        if not progress.is_unbegun:
            unbegun = None
        elif unbegun is None:
            unbegun = loop.time()
        view.waits(progress.waits_for(None if unbegun is None else loop.time() - unbegun))


async def _say_when_nobody_answers(run: FollowedRun, view: View) -> None:
    await asyncio.sleep(QUIET_SECONDS)
    if not run.heard:
        view.note(
            "No answer yet: the request is on the topic and starts as soon as an agency reads it. "
            "Is `anabranch agency` running with this prefix?"
        )


def _cancel(run: FollowedRun, view: View) -> Callable[[], None]:
    background: set[asyncio.Task[None]] = set()

    def cancel() -> None:
        view.note("Cancelling the run; interrupt again to leave at once.")
        background.add(asyncio.ensure_future(run.cancel()))

    return cancel


def _leave() -> None:
    os._exit(STOPPED)  # an agent's thread that does not end must not hold the process


async def _stopped(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs; an error of the view is raised, for it is a bug and no state of the run."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


@contextlib.asynccontextmanager
async def opened(path: Path | None) -> AsyncIterator[EventsFile | None]:
    """The events file, made anew; None for none.

    Raises:
        Misconfigured: it cannot be written.
    """
    if path is None:
        yield None
        return
    file = EventsFile.create(path)
    try:
        yield file
    finally:
        file.close()
