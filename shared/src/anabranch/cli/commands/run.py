"""`anabranch run FILE`: submits a request, shows the progress of the run, and prints its outcome."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anabranch.cli import request_files
from anabranch.cli.backends.backend import FollowedRun
from anabranch.cli.backends.selection import open_installation
from anabranch.cli.backends.systems import load_registry
from anabranch.cli.commands.decisions import deciding, decisions_of
from anabranch.cli.commands.definitions import definition_request, values_of
from anabranch.cli.commands.follow import Following, follow, open_events_file
from anabranch.cli.commands.waits import json_of
from anabranch.cli.durations import seconds_of
from anabranch.cli.exits import COMPLETED, code_for
from anabranch.cli.render.live_view import view_for
from anabranch.cli.render.output import (
    continued,
    count,
    failure_location,
    foreign_output_to_stderr,
    print_json,
    say,
    seconds,
    short,
    used,
)
from anabranch.cli.render.tracebacks import Tracebacks
from anabranch.core.errors import Misconfigured, RequestRefused
from anabranch.core.names import run_id_for
from anabranch.core.request.admission import Limits, ValidationResult, read_request
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.loops import run as run_async
from anabranch.sdk.client import session_keys_of
from anabranch.sdk.run_result import RunResult, no_executions

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.agents import Registry

SHOWN_FAILURES = 10
SHOWN_RESULTS = 20


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Arguments of `run`."""

    file: str | None
    embedded: bool = False
    detach: bool = False
    timeout: str | None = None
    json: bool = False
    events_file: Path | None = None
    strict: bool = False
    definition: str | None = None
    inputs: Sequence[str] = ()
    signals: tuple[str, ...] = ()
    """Signals to send at once, as NAME=JSON or NAME."""
    virtual_time: bool = False
    decisions: tuple[str, ...] = ()
    """Decisions about tasks that wait for a person, as TASK=DECISION."""


def run(options: RunOptions, settings: Settings) -> int:
    """Submit the request; returns the exit code.

    Raises:
        Misconfigured, ServerUnavailable: before or during the run.
    """
    with foreign_output_to_stderr(options.json):
        result = run_async(_run_request(options, settings), _virtual_loop() if options.virtual_time else None)
    return _print_result(result, options)


async def run_on_this_loop(options: RunOptions, settings: Settings) -> int:
    """As `run`, on a running event loop. Does not redirect the output of agents."""
    return _print_result(await _run_request(options, settings), options)


async def _run_request(options: RunOptions, settings: Settings) -> RunResult | FollowedRun:
    if options.embedded and options.detach:
        raise Misconfigured(
            "--detach", "cannot be combined with --embedded, which ends with this process", "omit one"
        )
    if (options.file is None) == (options.definition is None):
        problem = "is missing" if options.file is None else "cannot be combined with --definition"
        raise Misconfigured("FILE", problem, "give a file with a request, or --definition NAME")
    if options.decisions and options.detach:
        raise Misconfigured(
            "--decide", "cannot be combined with --detach: this command decides", "run `anabranch approve`"
        )
    if options.virtual_time and not options.embedded:
        raise Misconfigured("--virtual-time", "needs --embedded: a running system has its own time", "add it")
    try:
        if options.definition is not None:
            return await _start(definition_request(options.definition, options.inputs), options, settings)
        assert options.file is not None
        document = _with_inputs(request_files.load(options.file), options.inputs)
        return await _run(document, options, settings)
    except RequestRefused as refused:
        return rejected_result(refused)


def _virtual_loop() -> type[AbstractEventLoop]:
    from anabranch.testing.loop import VirtualLoop

    return VirtualLoop


def _print_result(result: RunResult | FollowedRun, options: RunOptions) -> int:
    if not isinstance(result, RunResult):
        print_detached(result, options.json)
        return COMPLETED
    if options.json:
        print_json(result.to_document())
    summarise(result)
    return code_for(result.status)


async def _run(document: Any, options: RunOptions, settings: Settings) -> RunResult | FollowedRun:
    # Without --embedded the agents are on workers: the names are checked only if the user gave modules.
    registry = (
        load_registry(settings.agents, settings)
        if options.embedded or settings.agents or settings.agent_files
        else None
    )
    timeout = _timeout(options.timeout)
    signals = [_signal(text) for text in options.signals]
    decisions = decisions_of(options.decisions)
    validation = validate(document, settings, registry, strict=options.strict)
    if validation.request is None:
        refused = RequestRefused(validation.errors, validation.warnings)
        return rejected_result(refused, validation.request_id, validation.session_id)
    canonical = validation.request.to_document()
    if timeout is not None:
        canonical["timeout"] = min(timeout, validation.request.timeout)
    async with (
        open_events_file(options.events_file) as events_file,
        open_installation(
            settings, registry if options.embedded else None, virtual_time=options.virtual_time
        ) as system,
    ):
        run = await system.submit(canonical)
        # The system validates again, and finds most of these warnings too.
        run.warnings = tuple(dict.fromkeys([*validation.warnings, *run.warnings]))
        for warning in run.warnings:
            say(f"Warning: {warning}")
        for name, value in signals:
            await system.signal(run.run_id, name, value, None)
        if options.detach:
            return run
        view = view_for(SystemClock())
        async with deciding(system, run, decisions):
            return await follow(run, Following(view, validation.plan, canonical.get("timeout"), events_file))


async def _start(document: dict[str, Any], options: RunOptions, settings: Settings) -> RunResult | FollowedRun:
    """Start a definition, which only the system knows."""
    registry = load_registry(settings.agents, settings) if options.embedded else None
    if (timeout := _timeout(options.timeout)) is not None:
        document["timeout"] = timeout
    async with (
        open_events_file(options.events_file) as events_file,
        open_installation(settings, registry) as system,
    ):
        run = await system.submit(document)
        if options.detach:
            return run
        async with deciding(system, run, decisions_of(options.decisions)):
            return await follow(run, Following(view_for(SystemClock()), None, timeout, events_file))


def validate(
    document: Any, settings: Settings, registry: Registry | None, *, strict: bool = False
) -> ValidationResult:
    """Validate a request as the Agency does. Names of agents are checked only with a registry."""
    return read_request(
        document,
        limits=Limits(settings.request_limit, settings.members_limit, settings.inline_limit),
        agents=None if registry is None else registry.choices,
        session_keys=session_keys_of(document),
        strict=strict,
    )


def rejected_result(
    refused: RequestRefused, request_id: str | None = None, session_id: str | None = None
) -> RunResult:
    """The result of a request that was rejected before it was published."""
    run_id = run_id_for(request_id) if request_id else ""
    return RunResult(
        run_id=run_id,
        request_id=request_id or "",
        session_id=session_id or run_id,
        status="rejected",
        executions=no_executions(),
        warnings=refused.warnings,
        errors=tuple(error.to_document() for error in refused.errors),
    )


def summarise(result: RunResult) -> None:
    """Print the outcome of a run for people."""
    if result.status == "rejected":
        say(f"The request was rejected, {count(len(result.errors), 'error')}:")
        for error in result.errors:
            hint = f" ({error['hint']})" if error.get("hint") else ""
            say(f"  {error['path'] or '(the request)'}: {continued(error['message'])}{hint}")
        return
    tracebacks = Tracebacks()
    for failure in list(result.failures)[:SHOWN_FAILURES]:
        say(
            f"  {failure_location(failure)}: {failure.get('error_type')}: {continued(str(failure.get('message')))}"
        )
        tracebacks.say(failure.get("traceback"))
    if len(result.failures) > SHOWN_FAILURES:
        say(f"  and {count(len(result.failures) - SHOWN_FAILURES, 'more failure')}; --json has all of them")
    for key, value in list(result.results.items())[:SHOWN_RESULTS]:
        say(f"  {key} = {short(value)}")
    done = result.executions
    failed = f", {done['failed']:,} failed" if done["failed"] else ""
    skipped = f", {done['skipped']:,} skipped" if done["skipped"] else ""
    executions = f"{done['completed']:,} of {count(done['total'], 'execution')} completed{failed}{skipped}"
    words = result.status.replace("_", " ")
    spent = f", {used(result.costs)}" if result.costs["usd"] or result.costs["tokens"] else ""
    say(f"Run {result.run_id} {words} in {seconds(result.duration_seconds)}: {executions}{spent}.")


def print_detached(run: FollowedRun, json: bool) -> None:
    """Print the ids of a submitted run that the command does not wait for."""
    if json:
        ids = {"run_id": run.run_id, "request_id": run.request_id or "", "session_id": run.session_id or ""}
        print_json({**ids, "status": "submitted", "warnings": list(run.warnings)})
    say(f"Submitted as run {run.run_id}. Follow it with: anabranch status {run.run_id}")


def _with_inputs(document: Any, inputs: Sequence[str]) -> Any:
    """A request whose context has these values. A document without a readable context is refused later."""
    values = values_of("--input", inputs)
    context = document.get("context") or {} if isinstance(document, dict) else None
    return {**document, "context": {**context, **values}} if values and isinstance(context, dict) else document


def _signal(text: str) -> tuple[str, Any]:
    """Name and value of a signal; without a value it is null."""
    name, separator, value = text.partition("=")
    return name, json_of("--signal", value) if separator else None


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    timeout = seconds_of("--timeout", text)
    if timeout == 0:
        raise Misconfigured("--timeout", "must be more than 0", "omit it to use the timeout of the request")
    return timeout
