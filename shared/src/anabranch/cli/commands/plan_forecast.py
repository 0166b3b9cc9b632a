"""`anabranch plan FILE --forecast`: when the run would end, what it would cost, and what bounds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from anabranch.cli.render.output import say
from anabranch.core.durations import format_duration
from anabranch.core.errors import Misconfigured
from anabranch.core.forecast.forecast import forecast
from anabranch.core.forecast.from_events import EventMeasurer
from anabranch.core.forecast.measured import KnownMeasurements, read_measurements
from anabranch.core.forecast.work import Capacity
from anabranch.core.forecast.work_of_plan import AgentTraits, Circumstances
from anabranch.core.programs import PROGRAM_KINDS
from anabranch.core.request.planning import Plan
from anabranch.runtime.process.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.agents import AgentDeclaration

OPTION = "--measured"


@dataclass(frozen=True, slots=True)
class ForecastOptions:
    """What `--forecast` is asked for. `measured`: files with measurements or events."""

    workers: int = 1
    measured: tuple[Path, ...] = ()
    seed: int = 0


def forecast_document(
    plan: Plan, agents: Iterable[AgentDeclaration], settings: Settings, options: ForecastOptions
) -> dict[str, Any]:
    """The field `forecast` of `--json`.

    Raises:
        Misconfigured: a file of measurements cannot be read.
    """
    given = Circumstances(
        measurements=measurements_of(options.measured),
        capacity=_capacity(settings, options.workers),
        agents={each.name: _traits(each) for each in agents},
        limits=settings.limits,
        starts_at=plan.request.not_before or SystemClock().now(),
    )
    return forecast(plan, given, seed=options.seed).to_document()


def measurements_of(files: Sequence[Path]) -> KnownMeasurements:
    """What some files say together: documents of measurements, and files of events.

    Raises:
        Misconfigured: a file cannot be read, or is neither.
    """
    measurer, found = EventMeasurer(), KnownMeasurements()
    for file in files:
        try:
            found = _with_file(found, file.read_bytes(), measurer)
        except OSError as error:
            raise Misconfigured(OPTION, f"cannot read {file}: {error.strerror}") from error
        except ValueError as error:
            raise Misconfigured(OPTION, f"{file}: {error}") from error
    if not measurer.runs:
        return found
    of_events = measurer.measurements()
    return replace(found, tasks={**of_events.tasks, **found.tasks}, latency=of_events.latency)


def _with_file(found: KnownMeasurements, data: bytes, measurer: EventMeasurer) -> KnownMeasurements:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict) and "version" in document:
        read = read_measurements(document)
        return KnownMeasurements({**found.agents, **read.agents}, {**found.tasks, **read.tasks}, read.latency)
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
        if not isinstance(event, dict):
            raise ValueError(f"line {number} is neither measurements nor an event")
        measurer.take(event)
    return found


def _capacity(settings: Settings, workers: int) -> Capacity:
    programs = {
        "process": settings.process_concurrency,
        "container": settings.container_concurrency,
        "kubernetes": settings.kubernetes_concurrency,
    }
    return Capacity(workers, settings.concurrency, programs, settings.offers)


def _traits(agent: AgentDeclaration) -> AgentTraits:
    kind = agent.executor if agent.executor in PROGRAM_KINDS else ""
    return AgentTraits(agent.retry, agent.timeout, agent.max_concurrency, kind)


# --- for people ------------------------------------------------------------------------------------


def show_forecast(found: dict[str, Any]) -> None:
    """Print a forecast."""
    for line in forecast_lines(found):
        say(line)


def forecast_lines(found: dict[str, Any]) -> Iterator[str]:
    """A forecast in words."""
    workers = "1 worker" if found["workers"] == 1 else f"{found['workers']:,} workers"
    yield f"Forecast with {workers} of {found['slots']:,} slots, from {found['trials']:,} simulated runs:"
    yield f"  ends after {_seconds(found['seconds'])}"
    yield from _ends(found)
    if found["usd"]["p95"]:
        yield f"  costs {_range(found['usd'], lambda usd: f'{usd:,.4g} USD')}"
    if found["tokens"]["p95"]:
        yield f"  uses {_range(found['tokens'], lambda count: f'{count:,.0f}')} tokens"
    yield f"  makes {_range(found['executions'], lambda count: f'{count:,.0f}')} attempts"
    for each in found.get("budgets", ()):
        yield f"  the budget of {each['of']} holds in {each['holds']:.0%} of runs"
    for each in found["bounds"]:
        yield f"  {each['share']:.0%} of the time: {_bound(each['by'])}"
    useful = found["useful_workers"]
    yield f"  workers that it could keep busy: {_range(useful, lambda count: f'{count:,.0f}')}"
    for each in found["by_workers"]:
        if each["workers"] != found["workers"]:
            yield f"    with {each['workers']:,}: {_seconds(each['seconds'])}"
    for each in found["assumptions"]:
        yield f"  Assumed: {each}"


def _ends(found: dict[str, Any]) -> Iterator[str]:
    failed, late = found["status"].get("failed", 0.0), found["status"].get("timed_out", 0.0)
    if failed:
        yield f"  fails in {failed:.0%} of runs"
    if late:
        yield f"  exceeds its timeout of {format_duration(found['timeout']['seconds'])} in {late:.0%} of runs"
    if (deadline := found.get("deadline")) is not None:
        enough = deadline["workers"]
        needs = "no number of workers is enough" if enough is None else f"needs {enough:,} workers"
        yield f"  the deadline {deadline['at']} holds in {deadline['holds']:.0%} of runs; {needs} for 95%"


def _seconds(found: dict[str, float]) -> str:
    return _range(found, format_duration)


def _range(found: dict[str, float], shown: Any) -> str:
    """The median, and the range of nine in ten."""
    low, middle, high = (shown(_rounded(found[name])) for name in ("p5", "p50", "p95"))
    return middle if low == high else f"{middle} (9 in 10: {low} to {high})"


def _rounded(value: float) -> float:
    return float(f"{value:.3g}") if value < 100 else float(round(value))


def _bound(by: str) -> str:
    return by if by.startswith("work of ") else f"waiting for {by}"
