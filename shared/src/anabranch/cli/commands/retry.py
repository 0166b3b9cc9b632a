"""`retry RUN --failed`: starts a run that imports the results of an earlier run, and shows its progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anabranch.cli.backends.selection import open_installation
from anabranch.cli.commands.follow import Following, follow
from anabranch.cli.commands.run import print_detached, summarise
from anabranch.cli.exits import COMPLETED, code_for
from anabranch.cli.render.live_view import view_for
from anabranch.cli.render.output import count, print_json, say
from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings


async def retry(
    settings: Settings, run: str, *, failed: bool, request_id: str | None, detach: bool, json: bool
) -> int:
    """Start the new run and, unless `detach`, wait for its end; returns the exit code.

    Raises:
        Misconfigured: `--failed` is missing.
        RequestRefused: the run cannot be retried.
    """
    if not failed:
        hint = "add --failed; to run all tasks again, submit the request with a new request id"
        raise Misconfigured("retry", "--failed is required", hint)
    async with open_installation(settings) as system:
        handle = await system.retry(run, request_id)
        if detach:
            print_detached(handle, json)
            return COMPLETED
        result = await follow(handle, Following(view_for(SystemClock())))
    if json:
        print_json(result.to_document())
    summarise(result)
    for warning in result.warnings:
        say(f"Warning: {warning}")
    if result.retry_of is not None:
        say(f"{count(result.taken_over, 'execution')} imported from run {result.retry_of}.")
    return code_for(result.status)
