"""The keys that a task waits for and the values that it gets, through the whole system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from small_requests import alive, array, request, task

from anabranch import Task
from anabranch.testing import System

Start = Callable[..., System]


async def fails(task: Task) -> None:
    raise ValueError("on purpose")


async def context(task: Task) -> dict[str, Any]:
    return dict(task.context)


# --- dependencies -----------------------------------------------------------------------------------


def test_an_optional_dependency_of_a_failed_producer_is_waited_for_and_absent(anabranch_system: Start) -> None:
    async def fails_late(task: Task) -> None:
        await asyncio.sleep(30)
        raise ValueError("late")

    s = anabranch_system(agents={"fails_late": fails_late, "context": context})
    document = request(
        task("bad", "fails_late"),
        task("good", inputs=1),
        task("reader", "context", dependencies=["good", "bad?"]),
        task("strict", "context", dependencies=["good", "bad"]),
    )

    run = s.submit(document)
    result = run.result()

    assert (result.status, result.results["reader"]) == ("failed", {"good": 1})
    assert "strict" not in result.results
    started = next(e for e in run.events() if e["type"] == "task.started" and e["task"] == "reader")
    failed = next(e for e in run.events() if e["type"] == "task.failed")
    assert started["seq"] > failed["seq"]
    assert result.executions == {"total": 4, "completed": 2, "failed": 1, "skipped": 1}


def test_an_optional_dependency_that_nobody_produces_is_absent_at_once(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})

    result = s.run(request(task("reader", "context", dependencies=["nobody?"])), timeout=5)

    assert result.results["reader"] == {}


def test_a_failure_skips_the_whole_chain_behind_it_and_no_more(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"fails": fails})
    chain = [task(f"t{n}", inputs=n, dependencies=[f"t{n - 1}"]) for n in range(1, 200)]

    result = s.run(request(task("t0", "fails"), *chain, task("other", inputs="x")))

    assert (result.status, dict(result.results)) == ("failed", {"other": "x"})
    assert result.executions == {"total": 201, "completed": 1, "failed": 1, "skipped": 199}


def test_a_failure_may_skip_thousands_in_one_turn(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"fails": fails})
    others = [task(f"t{n}", dependencies=["t0"]) for n in range(1, 8_000)]

    result = s.run(request(task("t0", "fails"), *others))

    alive(s)
    assert result.executions == {"total": 8_000, "completed": 0, "failed": 1, "skipped": 7_999}


def test_groups_wait_by_keys_and_not_by_order(anabranch_system: Start) -> None:
    s = anabranch_system()
    document = {
        "task_groups": [
            {"name": "last", "dependencies": ["b"], "tasks": [task("c", inputs="{b}c")]},
            {"name": "mixed", "tasks": [task("b", inputs="{a}b", dependencies=["a"]), task("a", inputs="a")]},
        ]
    }

    assert s.run(document).results["c"] == "abc"


def test_an_external_dependency_is_waited_for_and_seen_when_published(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})
    run = s.submit(
        request(task("reader", "context", external_dependencies=["approval"]), session_id="s-1", timeout="2h")
    )
    s.advance(1_000)
    before = [event["type"] for event in run.events()]

    s.publish("s-1", "approval", {"by": "Ann"})
    result = run.result(timeout=1)

    assert "task.started" not in before
    assert result.results["reader"] == {"approval": {"by": "Ann"}}


def test_an_external_value_that_was_there_before_is_taken(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})
    s.publish("s-1", "approval", 7)

    document = request(task("reader", "context", external_dependencies=["approval"]), session_id="s-1")

    assert s.run(document, timeout=1).results["reader"] == {"approval": 7}


def test_an_external_value_in_the_form_of_a_dangling_reference_is_a_value(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})
    odd = {"$anabranch": "s-1/nothing", "count": 1, "bytes": 1}
    s.publish("s-1", "list", odd)
    document = request(
        task("reader", "context", external_dependencies=["list"]),
        task("wide", inputs="{item}", external_dependencies=["list"], expansion_config=array("list")),
        task("other", inputs="x"),
        session_id="s-1",
    )

    result = s.run(document, timeout=3_600)

    alive(s)
    assert (result.status, result.results["reader"], result.results["other"]) == ("failed", {"list": odd}, "x")
    [failure] = result.failures
    assert (failure["task"], failure["error_type"]) == ("wide", "ExpansionError")


@pytest.mark.parametrize(
    "odd", [{"$anabranch": 5}, {"$anabranch": "no slash"}, {"$anabranch": "s-1/x", "run_id": []}]
)
def test_an_external_value_with_a_broken_reference_stops_no_service(anabranch_system: Start, odd: Any) -> None:
    s = anabranch_system(agents={"context": context})
    s.publish("s-1", "list", odd)
    document = request(
        task("reader", "context", external_dependencies=["list"]),
        task("wide", inputs="{item}", external_dependencies=["list"], expansion_config=array("list")),
        task("other", inputs="x"),
        session_id="s-1",
    )

    result = s.run(document, timeout=3_600)

    alive(s)
    assert result.results["other"] == "x"


def test_a_large_external_value_is_an_array(anabranch_system: Start) -> None:
    s = anabranch_system()
    s.publish("s-1", "list", ["x" * 100 for _ in range(20_000)])
    spec = task("wide", inputs="{index}", external_dependencies=["list"], expansion_config=array("list"))

    assert s.run(request(spec, session_id="s-1")).results["wide"] == list(range(20_000))


def test_two_runs_of_one_session_each_see_their_own_value(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})

    def document(value: Any) -> dict[str, Any]:
        return request(
            task("slow", "sleep", {"seconds": 10, "value": value}),
            task("wide", inputs="{item}", expansion_config=array([value] * 3, output_format="separate")),
            task("reader", "context", dependencies=["slow", "wide"]),
            session_id="shared",
        )

    first, second = s.submit(document("one")), s.submit(document("two" * 30_000))
    results = [first.result().results, second.result().results]

    for found, value in zip(results, ["one", "two" * 30_000], strict=True):
        assert found["reader"] == {"slow": value, "wide": {str(n): value for n in range(3)}}
        assert found["slow"] == value
        assert found["1_wide"] == value


def test_large_derived_keys_of_two_runs_are_each_their_own(anabranch_system: Start) -> None:
    s = anabranch_system(inline_limit=1_000)

    def document(value: str) -> dict[str, Any]:
        return request(
            task(
                "wide",
                inputs=value * 10 + "{item}",
                expansion_config=array(list(range(200)), output_format="separate"),
            ),
            session_id="shared",
        )

    first, second = s.submit(document("one")), s.submit(document("two"))
    results = [first.result().results, second.result().results]

    assert [found["7_wide"][:3] for found in results] == ["one", "two"]


def test_a_later_run_reads_values_of_an_earlier_run_of_the_session(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})
    s.run(request(task("kept", inputs=[1, 2]), session_id="long"))

    result = s.run(request(task("reader", "context", dependencies=["kept"]), session_id="long"))

    assert result.results["reader"] == {"kept": [1, 2]}
