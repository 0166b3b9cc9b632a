"""What every command of the bench shares: its options, opening the place, telling an end without figures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anabranch.cli.backends.systems import load_registry, open_place
from anabranch.cli.bench.report import Measurement, show
from anabranch.cli.bench.submitting import Asker, NotMeasured, asker
from anabranch.cli.exits import COMPLETED, code_for
from anabranch.cli.render.output import print_json, say
from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.settings import Settings

STAMPING = "anabranch.cli.bench.agents"
STAMPERS: tuple[str, ...] = (STAMPING,)
"""Modules of agents that an embedded system gets beside those of the settings."""

Measure = Callable[[Asker], Awaitable[Measurement]]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Of every command. `timeout` is of one run, in seconds; `weigh`: report bytes too."""

    embedded: bool = False
    timeout: float = 600.0
    json: bool = False
    weigh: bool = False


async def run_bench(settings: Settings, options: BenchOptions, what: str, measure: Measure) -> int:
    """Open the place, measure, print; returns the exit code.

    Raises:
        ServerUnavailable, Misconfigured: the place cannot be opened, or bytes were asked for where there are none.
    """
    if options.weigh and options.embedded:
        raise Misconfigured("--bytes", "a log in memory has no bytes on disk", "leave out --embedded")
    registry = load_registry((*settings.agents, *STAMPERS)) if options.embedded else None
    try:
        async with open_place(settings, registry) as place, asker(place, SystemClock(), options.timeout) as asking:
            say(f"Measuring on {place.description}: {what}")
            report = await measure(asking)
    except NotMeasured as failed:
        return _not_measured(failed, options.json)
    show(report, json=options.json)
    return COMPLETED


def _not_measured(failed: NotMeasured, json: bool) -> int:
    say(f"anabranch: {failed}")
    if json:
        print_json({"errors": [{"code": failed.status, "path": "", "message": str(failed), "hint": ""}]})
    return code_for(failed.status)
