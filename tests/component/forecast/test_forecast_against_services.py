"""The model of a forecast against the real services in virtual time, with the same durations and failures."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from many_workers import installation
from small_requests import array, request, task

from anabranch.core.forecast.forecast import Forecast, forecast
from anabranch.core.forecast.measured import KnownMeasurements, Measured
from anabranch.core.forecast.samples import Samples
from anabranch.core.forecast.work import Capacity
from anabranch.core.forecast.work_of_plan import Circumstances
from anabranch.core.request.admission import read_request

SLOTS = 16
SEEDS = 3
WAITED = 0.6
"""Seconds that the services wait by design in one of these runs: reports, and offers of the last chunks."""
UNIFORM = [1 + 2 * number / 100 for number in range(101)]
SKEWED = [-2 * math.log(1 - (number + 0.5) / 101) for number in range(101)]


def members(count: int, **more: Any) -> dict[str, Any]:
    return task("t", "work", expansion_config=array(list(range(count))), **more)


CASES: dict[str, tuple[dict[str, Any], list[float], float]] = {
    "a chain": (request(*(task(f"t{n}", "work", dependencies=[f"t{n - 1}"] if n else []) for n in range(6))),
                UNIFORM, 0.0),
    "slots": (request(members(100)), UNIFORM, 0.0),
    "skewed": (request(members(100)), SKEWED, 0.0),
    "a bound of the task": (request(members(60, max_concurrency=6), task("u", "work", dependencies=["t"])),
                            UNIFORM, 0.0),
    "a shared key": (request(members(40, concurrency={"key": "k", "limit": 4}),
                             task("u", "work", concurrency={"key": "k", "limit": 4})), UNIFORM, 0.0),
    "a rate": (request(members(60, rate_limit={"limit": 5, "per": "1s", "burst": 3})), UNIFORM, 0.0),
    "retries": (request(members(80, retry={"strategy": "fixed", "delay": "2s"}, tolerated_failures="50%")),
                UNIFORM, 0.2),
}  # fmt: skip


def agent_of(durations: list[float], failure_rate: float, seed: int) -> Callable[..., Any]:
    random = Random(seed)

    async def work(task: Any) -> int:
        await asyncio.sleep(random.choice(durations))
        if random.random() < failure_rate:
            raise TimeoutError("no answer")
        return 1

    return work


def seconds_of(document: dict[str, Any], durations: list[float], failure_rate: float) -> list[float]:
    """The finishing times of the real services."""
    found = []
    for seed in range(SEEDS):
        agents = {"work": agent_of(durations, failure_rate, seed)}
        with installation(2, agents, concurrency=SLOTS // 2) as made:
            found.append(made.wait(made.run(document))[1])
    return found


def forecast_of(document: dict[str, Any], durations: list[float], failure_rate: float) -> Forecast:
    measured = Measured(0, Samples(durations), failure_rate=failure_rate)
    plan = read_request(document).plan
    assert plan is not None
    given = Circumstances(KnownMeasurements({"work": measured}, latency=0.0), Capacity(2, SLOTS // 2))
    return forecast(plan, given, tries_workers=False)


@pytest.mark.parametrize("name", CASES)
def test_the_services_end_when_the_forecast_says(name: str) -> None:
    document, durations, failure_rate = CASES[name]

    found = forecast_of(document, durations, failure_rate)
    times = sorted(each.seconds for each in found.outcomes)

    # Each run lies between the extremes of 200 simulated ones, whose range shows that the check can fail.
    assert times[-1] < 3 * times[0]
    for seconds in seconds_of(document, durations, failure_rate):
        assert times[0] - 0.1 <= seconds <= times[-1] + WAITED


@pytest.mark.parametrize(
    ("name", "bound"),
    [("slots", "worker slots"), ("a bound of the task", "max_concurrency of g/t"),
     ("a shared key", "concurrency k"), ("a rate", "rate work"), ("a chain", "work of g/t")],
)  # fmt: skip
def test_the_forecast_names_what_bounds_the_run(name: str, bound: str) -> None:
    first = forecast_of(*CASES[name]).to_document()["bounds"][0]

    assert first["by"].startswith(bound)
    assert first["share"] > 0.15
