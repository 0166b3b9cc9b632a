"""`anabranch bench fanout`: how fast this installation fans out and joins, by what a user can observe.

`seconds` is from just before the request is published to the arrival of its final record; nothing is warmed up
but the connections. `p50_ms` and `p99_ms` are of the same span for requests of one task, sent one after
another before the fan-out, while nothing else runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anabranch.cli.exits import COMPLETED, code_for
from anabranch.cli.output import print_json, say
from anabranch.cli.systems import load_registry, open_place
from anabranch.runtime.clock import SystemClock

if TYPE_CHECKING:
    from anabranch.ports import Clock
    from anabranch.runtime.settings import Settings
    from anabranch.sdk.client import Client

SINGLE_REQUESTS = 100
FIRST_REQUESTS = 5
"""Not counted: they open connections and load code."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured."""

    tasks: int
    seconds: float
    latencies: tuple[float, ...]

    def to_document(self) -> dict[str, Any]:
        """The shape of `--json`."""
        return {
            "tasks": self.tasks,
            "seconds": round(self.seconds, 4),
            "tasks_per_second": round(self.tasks / self.seconds, 1),
            "p50_ms": round(percentile(self.latencies, 0.50) * 1000, 3),
            "p99_ms": round(percentile(self.latencies, 0.99) * 1000, 3),
        }


async def fanout(settings: Settings, tasks: int, *, embedded: bool, timeout: float, json: bool) -> int:
    """Measure and print; returns the exit code.

    Raises:
        ServerUnavailable, Misconfigured: the place cannot be opened.
    """
    clock = SystemClock()
    registry = load_registry(()) if embedded else None
    async with open_place(settings, registry) as place:
        say(f"Measuring on {place.description}: {SINGLE_REQUESTS} single tasks, then {tasks:,} in one fan-out")
        latencies: list[float] = []
        for _ in range(FIRST_REQUESTS + SINGLE_REQUESTS):
            status, seconds = await _timed(place.client, clock, single_request(), timeout)
            latencies.append(seconds)
            if status != "completed":
                return _not_measured(status, "a single task", timeout, json)
        status, seconds = await _timed(place.client, clock, fanout_request(tasks), timeout)
    if status != "completed":
        return _not_measured(status, "the fan-out", timeout, json)
    figures = Figures(tasks, seconds, tuple(latencies[FIRST_REQUESTS:])).to_document()
    if json:
        print_json(figures)
    say(
        f"{tasks:,} tasks in {figures['seconds']:.2f} s: {figures['tasks_per_second']:,.0f} a second. "
        f"One task alone: p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms."
    )
    return COMPLETED


async def _timed(client: Client, clock: Clock, request: dict[str, Any], timeout: float) -> tuple[str, float]:
    began = clock.monotonic()
    run = await client.submit(request)
    try:
        status = await run.ended(timeout)
    except TimeoutError:
        status = "timed_out"
    return status, clock.monotonic() - began


def _not_measured(status: str, what: str, timeout: float, json: bool) -> int:
    hint = f" after {timeout:g} s: are agency and taskgroup running?" if status == "timed_out" else ""
    message = f"{what} ended {status.replace('_', ' ')}{hint}"
    say(f"anabranch: {message}")
    if json:
        print_json({"errors": [{"code": status, "path": "", "message": message, "hint": ""}]})
    return code_for(status)


def fanout_request(tasks: int) -> dict[str, Any]:
    """One task of `tasks` members, each with one placeholder."""
    expansion = {
        "type": "custom",
        "transform_rules": {"sequence": {"n": {"start": 1, "end": tasks, "step": 1}}},
        "output_format": "merge",
    }
    task = {
        "name": "echo",
        "agent": "echo",
        "result_keys": ["echoes"],
        "message_template": "member {n}",
        "expansion_config": expansion,
    }
    return {"name": "bench fanout", "task_groups": [{"name": "fanout", "tasks": [task]}]}


def single_request() -> dict[str, Any]:
    """One task."""
    task = {"name": "echo", "agent": "echo", "result_keys": ["echoed"], "message_template": "hello"}
    return {"name": "bench single", "task_groups": [{"name": "single", "tasks": [task]}]}


def percentile(values: tuple[float, ...], fraction: float) -> float:
    """The nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]
