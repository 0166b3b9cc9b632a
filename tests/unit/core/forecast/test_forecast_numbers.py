"""The random numbers of forecasts, the documents that they are made from, and their size."""

from __future__ import annotations

import json
from typing import Any

import pytest
from counted_work import calls_of
from hypothesis import given
from hypothesis import strategies as st
from small_requests import request, task

from anabranch.core.forecast.draws import Draws
from anabranch.core.forecast.forecast import forecast
from anabranch.core.forecast.from_events import EventMeasurer
from anabranch.core.forecast.measured import KnownMeasurements, Measured, read_measurements
from anabranch.core.forecast.samples import MAX_VALUES, Samples
from anabranch.core.forecast.work import Capacity
from anabranch.core.forecast.work_of_plan import Circumstances
from anabranch.core.request.admission import read_request

NUMBERS = st.lists(st.floats(0, 1e6), min_size=1, max_size=20)


@given(NUMBERS, st.integers(1, 5_000), st.integers(0, 9))
def test_a_sum_of_values_lies_between_the_extremes(values: list[float], count: int, seed: int) -> None:
    samples = Samples(values)

    total = samples.total(count, Draws(seed))

    assert count * min(values) * (1 - 1e-9) <= total <= count * max(values) * (1 + 1e-9)
    assert min(values) * (1 - 1e-9) <= samples.mean <= max(values) * (1 + 1e-9)


@given(st.integers(0, 100_000), st.floats(0, 1), st.integers(0, 9))
def test_a_count_of_cases_lies_within_them(cases: int, probability: float, seed: int) -> None:
    assert 0 <= Draws(seed).count(cases, probability) <= cases


@pytest.mark.parametrize(("cases", "probability"), [(20, 0.3), (1_000, 0.01), (1_000, 0.4), (1_000, 0.995)])
def test_counts_have_the_mean_and_the_variance_of_their_distribution(cases: int, probability: float) -> None:
    draws = Draws(1)
    found = [draws.count(cases, probability) for _ in range(4_000)]
    mean = sum(found) / len(found)
    variance = sum((each - mean) ** 2 for each in found) / len(found)

    assert mean == pytest.approx(cases * probability, rel=0.03)
    assert variance == pytest.approx(cases * probability * (1 - probability), rel=0.12)


def test_many_values_become_as_many_quantiles() -> None:
    found = Samples(range(100_000))

    assert (len(found.values), found.values[0], found.values[-1]) == (MAX_VALUES, 0, 99_999)
    assert found.mean == pytest.approx(49_999.5)


@pytest.mark.parametrize("values", [[], [-1.0], [float("inf")]])
def test_values_that_are_no_amounts_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one number"):
        Samples(values)


def test_measurements_are_read_as_they_are_written() -> None:
    measured = Measured(
        7, Samples([1, 2.5]), Samples([3]), 0.25, {"ValueError": 1.0}, Samples([0.5]), Samples([9]),
        Samples([4]), Samples([2]), 0.5,
    )  # fmt: skip
    written = KnownMeasurements({"a": measured}, {"g/t": Measured()}, 0.5).to_document()

    assert read_measurements(json.loads(json.dumps(written))).to_document() == written


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "the document is not an object"),
        ({"version": 2}, "`version` is not 1"),
        ({"version": 1, "agent": {}}, "unknown field 'agent'"),
        ({"version": 1, "agents": {"a": 3}}, "agents.a is not an object"),
        ({"version": 1, "agents": {"a": {"second": 3}}}, "agents.a: unknown field 'second'"),
        ({"version": 1, "agents": {"a": {"seconds": "3"}}}, "agents.a.seconds is not a number"),
        ({"version": 1, "agents": {"a": {"seconds": []}}}, "agents.a.seconds is empty"),
        ({"version": 1, "tasks": {"t": {"failure_rate": 2}}}, "tasks.t.failure_rate is not a share"),
        ({"version": 1, "tasks": {"t": {"errors": {"A": 0.9, "B": 0.2}}}}, "the shares add up to more than 1"),
        ({"version": 1, "latency": True}, "latency is not a number"),
    ],
)
def test_a_wrong_document_is_refused_with_the_place(document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_measurements(document)


def test_what_a_task_lacks_is_that_of_its_agent() -> None:
    of_agent = Measured(5, Samples([2.0]), failure_rate=0.5, usd=Samples([1.0]))
    found = KnownMeasurements({"a": of_agent}, {"g/t": Measured(1, members=Samples([8]))}).of_task("g", "t", "a")

    assert found is not None
    assert (found.seconds, found.failure_rate, found.usd) == (of_agent.seconds, 0.5, of_agent.usd)
    assert found.members is not None
    assert found.members.values == (8,)
    assert KnownMeasurements().of_task("g", "t", "a") is None


def event(kind: str, at: float, **more: Any) -> dict[str, Any]:
    time = f"2026-01-01T00:00:{at:06.3f}Z"
    return {
        "type": kind,
        "time": time,
        "run_id": "r",
        "group": "g",
        "task": "t",
        "index": None,
        "attempt": 1,
    } | more


def test_attempts_are_measured_from_their_events() -> None:
    measurer = EventMeasurer()
    for each in (
        event("run.accepted", 0, task=None),
        event("task.expanded", 1, count=2),
        event("task.started", 1.25, index=0),
        event("task.started", 1.5, index=1),
        event("task.completed", 3.25, index=0),
        event("task.retrying", 2.5, index=1, error_type="ValueError"),
        event("task.started", 4, index=1, attempt=2),
        event("task.completed", 8, index=1, attempt=2),
        event("task.completed", 9, index=7),
        event("task.skipped", 9, task="u"),
        event("iteration.started", 9, task="loop", iteration=[0]),
        event("iteration.started", 9, task="loop", iteration=[1]),
    ):
        measurer.take(each)
    found = measurer.measurements()
    of_task = found.tasks["g/t"]

    assert (found.latency, measurer.runs) == (0.25, 1)
    assert of_task.to_document() == {
        "attempts": 3, "seconds": [2.0, 4.0], "failed_seconds": [1.0], "members": [2.0],
        "failure_rate": pytest.approx(1 / 3), "errors": {"ValueError": 1.0},
    }  # fmt: skip
    assert found.tasks["g/u"].skip_rate == 1.0
    assert found.tasks["g/loop"].to_document()["iterations"] == [2.0]


@pytest.mark.parametrize("document", [{}, {"type": "task.started"}, event("task.started", 0) | {"time": "now"}])
def test_what_is_no_event_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="event"):
        EventMeasurer().take(document)


def circumstances(workers: int = 2) -> Circumstances:
    measured = Measured(1_000_000, Samples([1, 2, 8]), failure_rate=0.1, errors={"ValueError": 0.5})
    return Circumstances(KnownMeasurements({"work": measured}), Capacity(workers, 64))


def wide(members: int, **more: Any) -> dict[str, Any]:
    rules = {"sequence": {"x": {"start": 1, "end": members}}}
    return request(task("t", "work", expansion_config={"type": "custom", "transform_rules": rules}, **more))


def test_the_same_seed_gives_the_same_forecast_and_another_one_another() -> None:
    plan = read_request(wide(300, retry={"strategy": "fixed"})).plan
    assert plan is not None
    first, again, other = (
        forecast(plan, circumstances(), seed=seed, trials=5).to_document() for seed in (1, 1, 2)
    )

    assert first == again
    assert first["seconds"] != other["seconds"]


@pytest.mark.parametrize("limits", [{}, {"max_concurrency": 50}, {"rate_limit": {"limit": 500}}])
def test_a_hundred_times_the_members_take_few_times_the_work(limits: dict[str, Any]) -> None:
    calls = []
    for count in (10_000, 1_000_000):
        plan = read_request(wide(count, tolerated_failures="50%", **limits)).plan
        assert plan is not None
        calls.append(calls_of(lambda plan=plan: forecast(plan, circumstances(), trials=2, tries_workers=False)))

    assert calls[1] < 16 * calls[0]


def test_many_members_end_as_their_work_and_their_slots_say() -> None:
    plan = read_request(wide(100_000, tolerated_failures="50%")).plan
    assert plan is not None
    mean = Samples([1, 2, 8]).mean

    found = forecast(plan, circumstances(), trials=20, tries_workers=False).seconds

    assert found.p50 == pytest.approx(100_000 * mean / 128, rel=0.02)


def test_few_measurements_widen_the_forecast() -> None:
    plan = read_request(wide(500, tolerated_failures="50%")).plan
    assert plan is not None

    def width(attempts: int) -> float:
        measured = Measured(attempts, Samples([1, 2, 8]), failure_rate=0.1)
        given = Circumstances(KnownMeasurements({"work": measured}), Capacity(1, 64))
        found = forecast(plan, given, trials=40, tries_workers=False).seconds
        return found.p95 - found.p5

    assert width(10) > 2 * width(100_000)
