"""Shared by all bench commands: options, opening the system, and the exit if a run could not be measured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anabranch.cli.backends.systems import load_registry, open_system
from anabranch.cli.bench.client import BenchClient, NotMeasured, open_bench_client
from anabranch.cli.bench.report import Measurement, show
from anabranch.cli.exits import COMPLETED, code_for
from anabranch.cli.render.output import print_json, say
from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.settings import Settings

STAMPING = "anabranch.cli.bench.agents"
STAMPERS: tuple[str, ...] = (STAMPING,)
"""Modules of agents that an embedded system loads in addition to those of the settings."""

Measure = Callable[[BenchClient], Awaitable[Measurement]]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of every command. `timeout` is the maximum duration of one run in seconds; `measure_bytes`: measure
    bytes."""

    embedded: bool = False
    timeout: float = 600.0
    json: bool = False
    measure_bytes: bool = False


async def run_bench(settings: Settings, options: BenchOptions, what: str, measure: Measure) -> int:
    """Open a system, measure, print; returns the exit code.

    Raises:
        ServerUnavailable, Misconfigured: the system cannot be opened, or `measure_bytes` is given with `embedded`.
    """
    if options.measure_bytes and options.embedded:
        raise Misconfigured("--bytes", "an embedded system has no log on disk to measure", "omit --embedded")
    registry = load_registry((*settings.agents, *STAMPERS)) if options.embedded else None
    try:
        async with (
            open_system(settings, registry) as system,
            open_bench_client(system, SystemClock(), options.timeout) as client,
        ):
            say(f"Measuring on {system.description}: {what}")
            report = await measure(client)
    except NotMeasured as failed:
        return _not_measured(failed, options.json)
    show(report, json=options.json)
    return COMPLETED


def _not_measured(failed: NotMeasured, json: bool) -> int:
    say(f"anabranch: {failed}")
    if json:
        print_json({"errors": [{"code": failed.status, "path": "", "message": str(failed), "hint": ""}]})
    return code_for(failed.status)
