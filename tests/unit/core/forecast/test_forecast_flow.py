"""What a forecast makes of the parts of a request: order, failures, loops, races, limits of time and money."""

from __future__ import annotations

from typing import Any

import pytest
from small_requests import array, request, task

from anabranch.core.forecast.forecast import Forecast, forecast
from anabranch.core.forecast.measured import KnownMeasurements, Measured
from anabranch.core.forecast.samples import Samples
from anabranch.core.forecast.work import Capacity
from anabranch.core.forecast.work_of_plan import AgentTraits, Circumstances
from anabranch.core.request.admission import read_request

AGENTS = {
    "one": Measured(9, Samples([1.0]), usd=Samples([0.5])),
    "three": Measured(9, Samples([3.0])),
    "breaks": Measured(9, Samples([1.0]), failure_rate=1.0),
}


def forecast_of(document: dict[str, Any], capacity: Capacity = Capacity(1, 4), **more: Any) -> Forecast:
    tries_workers = more.pop("tries_workers", False)
    tasks = more.pop("tasks", {})
    reading = read_request(document)
    assert reading.errors == ()
    assert reading.plan is not None
    given = Circumstances(KnownMeasurements(AGENTS, tasks, latency=0.0), capacity, **more)
    return forecast(reading.plan, given, trials=20, tries_workers=tries_workers)


def seconds_of(document: dict[str, Any], capacity: Capacity = Capacity(1, 4), **more: Any) -> float:
    """The finishing time, of which there is one, because no duration is random."""
    found = forecast_of(document, capacity, **more).seconds
    assert found.p5 == pytest.approx(found.p95)
    return found.p50


def status_of(document: dict[str, Any]) -> dict[str, float]:
    return forecast_of(document).to_document()["status"]  # type: ignore[no-any-return]


def members(count: int, **more: Any) -> dict[str, Any]:
    return task("t", "one", expansion_config=array(list(range(count))), **more)


@pytest.mark.parametrize(
    ("document", "seconds"),
    [
        (request(task("a", "one"), task("b", "three", dependencies=["a"])), 4),
        (request(task("a", "one"), task("b", "three")), 3),
        (request(members(4)), 1),
        (request(members(12)), 3),
        (request(members(12, max_concurrency=1)), 12),
        (request(members(12, concurrency={"key": "k", "limit": 2})), 6),
        (request(members(9, rate_limit={"limit": 2, "per": "1s", "burst": 1})), 5),
        (request(members(0)), 0),
        (request(task("w", wait={"for": "1h"}) | {"agent": None}), 3600),
        (request(members(4), not_before="2030-01-01T00:00:00Z"), 1),
    ],
)
def test_members_run_in_the_room_that_there_is(document: dict[str, Any], seconds: float) -> None:
    for each in document["task_groups"][0]["tasks"]:
        if each["agent"] is None:
            del each["agent"]

    assert seconds_of(document) == pytest.approx(seconds, abs=0.01)


def test_workers_share_the_members_and_limits_of_agents_grow_with_them() -> None:
    assert seconds_of(request(members(16)), Capacity(2, 4)) == 2
    traits = {"one": AgentTraits(max_concurrency=1)}
    assert seconds_of(request(members(16)), Capacity(2, 4), agents=traits) == 8


def test_programs_take_places_of_their_kind_and_no_slots() -> None:
    traits = {"one": AgentTraits(kind="container")}

    assert seconds_of(request(members(16)), Capacity(1, 1, {"container": 8}), agents=traits) == 2


def test_what_a_member_requires_bounds_how_many_fit_on_a_worker() -> None:
    wanted = request(members(8, requires={"cpu": 2}))

    assert seconds_of(wanted, Capacity(1, 64, offers="cpu=4")) == 4
    found = forecast_of(wanted, Capacity(1, 64)).to_document()
    assert found["assumptions"] == [
        "g/t: what it requires of workers is not counted, because what they offer is not known"
    ]


def test_a_failure_skips_what_requires_it_and_fails_the_run() -> None:
    broken = request(task("a", "breaks"), task("b", "three", dependencies=["a"]))

    assert (seconds_of(broken), status_of(broken)) == (1, {"failed": 1.0})
    optional = request(task("a", "breaks"), task("b", "three", dependencies=["a?"]))
    assert seconds_of(optional) == 4


def test_a_handled_failure_runs_its_handler() -> None:
    handled = request(
        task("a", "breaks", error_key="trouble"),
        task("b", "three", dependencies=["trouble"]),
        task("c", "three", dependencies=["a"]),
    )

    assert (seconds_of(handled), status_of(handled)) == (4, {"completed": 1.0})


def test_attempts_are_retried_by_the_policy_and_its_delays_hold_no_slot() -> None:
    retried = request(
        task("a", "breaks", retry={"strategy": "fixed", "delay": "10s", "max_attempts": 3}),
        members(4),
        max_concurrency=None,
    )
    del retried["max_concurrency"]
    found = forecast_of(retried, Capacity(1, 1))

    # Three attempts of a second and two delays; the other members run meanwhile.
    assert found.seconds.p50 == pytest.approx(23, abs=4)
    assert found.to_document()["executions"]["p50"] == 7


def test_a_timeout_ends_an_attempt_which_fails() -> None:
    late = request(task("a", "three", timeout="2s"))

    assert (seconds_of(late), status_of(late)) == (2, {"failed": 1.0})


def test_a_race_ends_with_its_first_task_and_frees_the_slots_of_the_others() -> None:
    racing = request(task("a", "one"), task("b", "three"))
    racing["task_groups"][0]["race"] = True
    racing["task_groups"].append({"name": "h", "tasks": [task("c", "one", dependencies=["a"])]})

    assert seconds_of(racing, Capacity(1, 2)) == 2


def test_fail_fast_and_timeouts_of_groups_end_their_tasks() -> None:
    fast = request(task("a", "breaks"), task("b", "three"))
    fast["task_groups"][0]["fail_fast"] = True
    slow = request(task("b", "three"))
    slow["task_groups"][0]["timeout"] = "2s"

    assert (seconds_of(fast), seconds_of(slow)) == (1, 2)
    assert status_of(slow) == {"failed": 1.0}


def test_a_loop_repeats_its_body_and_others_wait_for_its_end() -> None:
    looped = {
        "task_groups": [
            {
                "name": "g",
                "loop": {"each": [1, 2, 3], "delay": "1s"},
                "sequential": True,
                "tasks": [task("a", "one"), task("b", "three")],
            },
            {"name": "h", "tasks": [task("c", "one", dependencies=["b"])]},
        ]
    }

    assert seconds_of(looped) == 3 * 4 + 2 * 1 + 1


def test_a_condition_and_a_switch_follow_what_is_known_and_else_what_was_measured() -> None:
    known = request(task("a", "three", when="x == 1", dependencies=["x"]), context={"x": 2})
    open_one = request(task("a", "one"), task("b", "three", when="a == 1"))

    assert seconds_of(known) == 0
    assert seconds_of(open_one) == 4
    assert seconds_of(open_one, tasks={"g/b": Measured(0, skip_rate=1.0)}) == 1


def test_the_run_ends_with_its_timeout() -> None:
    late = request(task("a", "three"), timeout="2s")

    assert (seconds_of(late), status_of(late)) == (2, {"timed_out": 1.0})


def test_tasks_of_finally_run_after_all_others_whatever_happened() -> None:
    assert seconds_of(request(task("a", "breaks"), **{"finally": [task("z", "three")]})) == 4


def test_a_deadline_says_with_how_many_workers_it_holds() -> None:
    wanted = request(members(16), deadline="2030-01-01T00:00:02Z")
    found = forecast_of(wanted, starts_at=1893456000.0, tries_workers=True).to_document()

    assert found["deadline"] == {"at": "2030-01-01T00:00:02Z", "seconds": 2.0, "holds": 0.0, "workers": 2}
    assert found["useful_workers"]["p50"] == 4
    assert {each["workers"]: each["seconds"]["p50"] for each in found["by_workers"]} == {1: 4, 2: 2, 4: 1}


def test_a_budget_holds_as_far_as_the_costs_allow() -> None:
    found = [forecast_of(request(members(16), budget={"usd": usd})).to_document()["budgets"] for usd in (7.99, 8)]

    assert found == [[{"of": "run", "holds": 0.0}], [{"of": "run", "holds": 1.0}]]


def test_what_is_not_measured_is_listed() -> None:
    found = forecast_of(
        request(task("a", "other"), task("b", "one", expansion_config=array("a"), dependencies=["a"]))
    )

    assert list(found.work.assumptions) == [
        "g/b: the number of members is not known before the run, and counted as 1",
        "g/a: nothing was measured, and it is counted as taking no time",
    ]


def test_members_of_members_are_as_many_as_before_in_proportion() -> None:
    chained = request(members(30), task("u", "one", expansion_config=array("t"), dependencies=["t"]))
    known = {"g/t": Measured(members=Samples([10])), "g/u": Measured(members=Samples([20]))}

    assert forecast_of(chained).work.tasks[1].members.values == (30,)
    assert forecast_of(chained, tasks=known).work.tasks[1].members.values == (60,)
