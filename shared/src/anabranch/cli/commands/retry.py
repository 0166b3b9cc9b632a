"""`retry RUN --failed` and `fork RUN`: start a run that imports results of an earlier run, and show its
progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anabranch.cli import request_files
from anabranch.cli.backends.backend import FollowedRun
from anabranch.cli.backends.selection import open_installation
from anabranch.cli.commands.definitions import values_of
from anabranch.cli.commands.follow import Following, follow
from anabranch.cli.commands.run import print_detached, summarise
from anabranch.cli.exits import COMPLETED, code_for
from anabranch.cli.render.live_view import view_for
from anabranch.cli.render.output import count, print_json, say
from anabranch.cli.said import NOTHING, Said
from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings


@dataclass(frozen=True, slots=True)
class ForkOptions:
    """Arguments of `fork`. `values` are texts KEY=VALUE, `request` is a file."""

    tasks: Sequence[str] = ()
    values: Sequence[str] = ()
    request: str | None = None
    request_id: str | None = None
    detach: bool = False
    json: bool = False
    said: Said = NOTHING


async def fork(settings: Settings, run: str, options: ForkOptions) -> int:
    """Start a fork and, unless `detach`, wait for its end; returns the exit code.

    Raises:
        Misconfigured: nothing is to be run again.
        RequestRefused: the fork cannot be started.
    """
    if not (options.tasks or options.values or options.request):
        raise Misconfigured("fork", "nothing is to be run again", "add --from TASK, --set KEY=VALUE or --request")
    body = {
        "from": list(options.tasks),
        "set": values_of("--set", options.values),
        "request": None if options.request is None else request_files.load(options.request),
        "request_id": options.request_id,
    }
    async with open_installation(settings) as system:
        handle = await system.fork(run, {name: value for name, value in body.items() if value}, options.said)
        return await _followed(handle, detach=options.detach, json=options.json)


async def retry(
    settings: Settings,
    run: str,
    *,
    failed: bool,
    request_id: str | None,
    detach: bool,
    json: bool,
    said: Said = NOTHING,
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
        handle = await system.retry(run, request_id, said)
        return await _followed(handle, detach=detach, json=json)


async def _followed(handle: FollowedRun, *, detach: bool, json: bool) -> int:
    if detach:
        print_detached(handle, json)
        return COMPLETED
    result = await follow(handle, Following(view_for(SystemClock())))
    if json:
        print_json(result.to_document())
    summarise(result)
    for warning in result.warnings:
        say(f"Warning: {warning}")
    before = result.retry_of or result.origin.get("forked_from")
    if before is not None:
        say(f"{count(result.taken_over, 'execution')} imported from run {before}.")
    return code_for(result.status)
