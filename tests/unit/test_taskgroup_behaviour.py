"""What a run does in time, through the whole system: dependencies, failures, retries, limits, stops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import anabranch.embedded
from anabranch import GiveUp, RetryLater, Task, agent
from anabranch.testing import System, system
from anabranch_agency.app import build as build_agency
from small_requests import alive, array, request, task

Start = Callable[..., System]


async def fails(task: Task) -> None:
    raise ValueError("on purpose")


async def naps(task: Task) -> Any:
    await asyncio.sleep(float(task.inputs))
    return task.name


async def context(task: Task) -> dict[str, Any]:
    return dict(task.context)


# --- dependencies --------------------------------------------------------------------------------


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


def test_an_external_value_that_points_nowhere_fails_its_tasks_only(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})
    s.publish("s-1", "list", {"$anabranch": "s-1/nothing", "count": 1, "bytes": 1})
    document = request(
        task("reader", "context", external_dependencies=["list"]),
        task("wide", inputs="{item}", external_dependencies=["list"], expansion_config=array("list")),
        task("other", inputs="x"),
        session_id="s-1",
    )

    result = s.run(document, timeout=3_600)

    alive(s)
    assert result.status == "failed"
    assert result.results["other"] == "x"


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


def test_a_later_run_reads_what_an_earlier_one_left_in_the_session(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})
    s.run(request(task("kept", inputs=[1, 2]), session_id="long"))

    result = s.run(request(task("reader", "context", dependencies=["kept"]), session_id="long"))

    assert result.results["reader"] == {"kept": [1, 2]}


# --- stops ---------------------------------------------------------------------------------------


def test_cancel_reaches_async_and_plain_agents_and_keeps_what_completed(anabranch_system: Start) -> None:
    seen: list[str] = []
    released = threading.Event()

    async def waits(task: Task) -> None:
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            seen.append("async")
            raise

    def blocks(task: Task) -> None:
        while not task.cancelled:
            time.sleep(0.001)
        seen.append("plain")
        released.set()

    s = anabranch_system(agents={"waits": waits, "blocks": blocks})
    run = s.submit(
        request(
            task("quick", inputs=1),
            task("waits", "waits"),
            task("blocks", "blocks"),
            task("after", dependencies=["waits"]),
        )
    )
    s.advance(60)
    run.cancel()
    result = run.result(timeout=5)

    assert released.wait(5)
    alive(s)
    assert (result.status, dict(result.results)) == ("cancelled", {"quick": 1})
    assert sorted(seen) == ["async", "plain"]
    assert result.executions == {"total": 4, "completed": 1, "failed": 0, "skipped": 3}


def test_cancel_keeps_the_members_that_completed(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"naps": naps})
    run = s.submit(request(task("wide", "naps", "{item}", expansion_config=array([1, 2, 5_000, 6_000]))))
    s.advance(10)
    run.cancel()
    result = run.result()

    assert (result.status, result.results["wide"]) == ("cancelled", ["wide_1", "wide_2"])
    assert result.executions == {"total": 4, "completed": 2, "failed": 0, "skipped": 2}


def test_a_cancel_of_an_ended_run_changes_nothing(anabranch_system: Start) -> None:
    s = anabranch_system()
    run = s.submit(request(task("quick", inputs=1)))
    before = run.result()
    run.cancel()
    s.advance(5)

    assert s.submit(request(task("quick", inputs=1), request_id=run.request_id)).result() == before


def test_the_runs_timeout_stops_it_with_what_there_is(anabranch_system: Start) -> None:
    cancelled: list[str] = []

    async def waits(task: Task) -> None:
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            cancelled.append(task.name)
            raise

    s = anabranch_system(agents={"waits": waits})
    result = s.run(request(task("quick", inputs=1), task("slow", "waits"), timeout="1m"))

    assert (result.status, dict(result.results)) == ("timed_out", {"quick": 1})
    assert result.duration_seconds == pytest.approx(60, abs=1)
    assert cancelled == ["slow"]


def test_a_groups_timeout_stops_its_members_and_leaves_other_groups_alone(anabranch_system: Start) -> None:
    cancelled: list[str] = []

    async def waits(task: Task) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.append(task.name)
            raise

    s = anabranch_system(agents={"waits": waits, "naps": naps})
    document = {
        "task_groups": [
            {"name": "short", "timeout": "10s", "tasks": [task("slow", "waits")]},
            {"name": "long", "tasks": [task("other", "naps", 300)]},
        ]
    }
    result = s.run(document)

    assert (result.status, dict(result.results)) == ("failed", {"other": "other"})
    assert [each["error_type"] for each in result.failures] == ["GroupTimeout"]
    assert cancelled == ["slow"]


def test_an_attempts_timeout_fails_it_and_tells_a_plain_agent(anabranch_system: Start) -> None:
    told = threading.Event()

    def blocks(task: Task) -> None:
        while not task.cancelled:
            time.sleep(0.001)
        told.set()

    s = anabranch_system(agents={"blocks": blocks, "naps": naps})
    document = request(task("plain", "blocks", timeout="50ms"), task("async", "naps", 1_000, timeout="50ms"))
    result = s.run(document)

    assert told.wait(5)
    assert {each["task"]: each["error_type"] for each in result.failures} == {
        "plain": "AttemptTimeout",
        "async": "AttemptTimeout",
    }


def test_pause_holds_new_members_back_until_resume(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"naps": naps})
    run = s.submit(request(task("first", "naps", 10), task("second", inputs=1, dependencies=["first"])))
    s.advance(1)
    run.pause()
    s.advance(1_000)
    paused = [(event["type"], event["task"]) for event in run.events()]
    run.resume()
    result = run.result(timeout=5)

    assert ("task.completed", "first") in paused
    assert ("task.started", "second") not in paused
    assert result.completed


# --- attempts ------------------------------------------------------------------------------------


class Attempts:
    """Fails the first `failures` attempts with `error`, and notes when each one came."""

    def __init__(self, failures: int, error: Callable[[], Exception]) -> None:
        self.failures = failures
        self.error = error
        self.at: list[float] = []
        self.numbers: list[int] = []
        self.keys: set[str] = set()

    async def __call__(self, task: Task) -> int:
        self.at.append(asyncio.get_running_loop().time())
        self.numbers.append(task.attempt)
        self.keys.add(task.idempotency_key)
        if len(self.at) <= self.failures:
            raise self.error()
        return task.attempt

    @property
    def gaps(self) -> list[float]:
        return [round(later - earlier, 1) for earlier, later in zip(self.at, self.at[1:], strict=False)]


def attempts_of(s_of: Start, failures: int, error: Callable[[], Exception], **policy: Any) -> tuple[Attempts, Any]:
    flaky = Attempts(failures, error)

    async def call(task: Task) -> int:
        return await flaky(task)

    s = s_of(agents={"flaky": call})
    result = s.run(request(task("out", "flaky", retry=policy)))
    return flaky, result


@pytest.mark.parametrize(
    ("policy", "gaps"),
    [
        ({"strategy": "immediate"}, [0, 0, 0]),
        ({"strategy": "fixed", "delay": 0.5}, [0.5, 0.5, 0.5]),
        ({"strategy": "fixed", "delay": 90}, [90, 90, 90]),
        ({"strategy": "exponential", "delay": 0.5}, [0.5, 1, 2]),
        ({"strategy": "fibonacci", "delay": 10}, [10, 10, 20]),
        ({"strategy": "exponential", "delay": 10, "max_delay": 15}, [10, 15, 15]),
    ],
)
def test_retries_wait_as_their_policy_says(anabranch_system: Start, policy: Any, gaps: list[float]) -> None:
    flaky, result = attempts_of(anabranch_system, 3, lambda: ValueError("x"), max_attempts=4, **policy)

    assert (result.status, result.results["out"]) == ("completed", 4)
    assert flaky.gaps == pytest.approx(gaps, abs=0.2)
    assert flaky.numbers == [1, 2, 3, 4]
    assert len(flaky.keys) == 1


def test_attempts_come_to_an_end(anabranch_system: Start) -> None:
    flaky, result = attempts_of(
        anabranch_system, 99, lambda: ValueError("x"), strategy="exponential", delay=1, max_attempts=3
    )

    assert [(each["error_type"], each["attempts"]) for each in result.failures] == [("ValueError", 3)]
    assert flaky.numbers == [1, 2, 3]


def test_what_is_given_up_is_not_tried_again(anabranch_system: Start) -> None:
    flaky, result = attempts_of(anabranch_system, 99, lambda: GiveUp("no"), strategy="immediate", max_attempts=5)

    assert (result.status, flaky.numbers) == ("failed", [1])


def test_a_type_that_is_not_retryable_is_not_tried_again(anabranch_system: Start) -> None:
    flaky, _ = attempts_of(
        anabranch_system, 99, lambda: KeyError("no"), strategy="immediate", non_retryable=["KeyError"]
    )

    assert flaky.numbers == [1]


@pytest.mark.parametrize("after", [0.5, 600])
def test_retry_later_says_when(anabranch_system: Start, after: float) -> None:
    flaky, result = attempts_of(
        anabranch_system, 2, lambda: RetryLater(after=after), strategy="immediate", max_attempts=5
    )

    assert result.completed
    assert flaky.gaps == pytest.approx([after, after], abs=0.2)


def test_retries_of_members_leave_the_others_alone(anabranch_system: Start) -> None:
    calls: dict[int, int] = {}

    async def odd_ones_fail_twice(task: Task) -> int:
        index = task.index or 0
        calls[index] = calls.get(index, 0) + 1
        if index % 2 and calls[index] < 3:
            raise ValueError(f"{index}")
        return index

    s = anabranch_system(agents={"odd": odd_ones_fail_twice})
    policy = {"strategy": "fixed", "delay": 5, "max_attempts": 3}
    run = s.submit(request(task("out", "odd", retry=policy, expansion_config=array(list(range(300))))))
    result = run.result()

    assert result.results["out"] == list(range(300))
    assert calls == {n: 3 if n % 2 else 1 for n in range(300)}
    retrying = [(e["index"], e["attempt"]) for e in run.events() if e["type"] == "task.retrying"]
    assert sorted(retrying) == [(n, k) for n in range(1, 300, 2) for k in (1, 2)]
    completed = {e["index"]: e["attempt"] for e in run.events() if e["type"] == "task.completed"}
    assert completed == {n: 3 if n % 2 else 1 for n in range(300)}


def test_a_missing_result_key_is_a_failed_attempt_that_names_it(anabranch_system: Start) -> None:
    async def half(task: Task) -> dict[str, int]:
        return {"a": 1}

    s = anabranch_system(agents={"half": half})
    result = s.run(request(task("t", "half", result_keys=["a", "b"])))

    assert [each["error_type"] for each in result.failures] == ["ResultError"]
    assert "'b'" in result.failures[0]["message"]


# --- limits --------------------------------------------------------------------------------------


class Gauge:
    """Counts calls that run at once."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.calls = 0

    async def __call__(self, task: Task) -> int:
        self.running += 1
        self.calls += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(1 + (task.index or 0) % 3)
        self.running -= 1
        return self.calls

    def agent(self, name: str, **limits: Any) -> Callable[..., Any]:
        async def call(task: Task) -> int:
            return await self(task)

        return agent(name, **limits)(call)


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_a_tasks_limit_bounds_its_running_members_and_is_used(anabranch_system: Start, limit: int) -> None:
    gauge = Gauge()
    s = anabranch_system(agents=[gauge.agent("gauge")])

    result = s.run(request(task("out", "gauge", expansion_config=array(list(range(150))), max_concurrency=limit)))

    assert result.completed
    assert (gauge.most, gauge.calls) == (limit, 150)


@pytest.mark.parametrize("limit", [1, 4])
def test_a_groups_limit_bounds_all_its_tasks(anabranch_system: Start, limit: int) -> None:
    gauge = Gauge()
    s = anabranch_system(agents=[gauge.agent("gauge")])
    tasks = [task(f"t{n}", "gauge", expansion_config=array(list(range(20)))) for n in range(3)]
    tasks += [task(f"single{n}", "gauge") for n in range(5)]

    result = s.run({"task_groups": [{"name": "g", "max_concurrency": limit, "tasks": tasks}]})

    assert result.completed
    assert (gauge.most, gauge.calls) == (limit, 65)


def test_an_agents_own_limit_bounds_its_worker(anabranch_system: Start) -> None:
    gauge = Gauge()
    s = anabranch_system(agents=[gauge.agent("gauge", max_concurrency=2)])

    result = s.run(request(task("a", "gauge", expansion_config=array(list(range(10)))), task("b", "gauge")))

    assert result.completed
    assert (gauge.most, gauge.calls) == (2, 11)


def test_a_workers_concurrency_bounds_everything(anabranch_system: Start) -> None:
    gauge = Gauge()
    s = anabranch_system(agents=[gauge.agent("gauge")], concurrency=5)

    result = s.run(request(task("out", "gauge", expansion_config=array(list(range(60))))))

    assert result.completed
    assert gauge.most == 5


def test_a_limit_leaves_room_for_retries(anabranch_system: Start) -> None:
    tried: set[int] = set()

    async def fails_once(task: Task) -> int:
        index = task.index or 0
        if index not in tried:
            tried.add(index)
            raise ValueError("once")
        return index

    s = anabranch_system(agents={"once": fails_once})
    policy = {"strategy": "fixed", "delay": 30, "max_attempts": 2}
    spec = task("out", "once", retry=policy, expansion_config=array(list(range(40))), max_concurrency=2)

    assert s.run(request(spec), timeout=3_600).results["out"] == list(range(40))


# --- nobody can run it ---------------------------------------------------------------------------


@pytest.fixture
def unjudged_system(anabranch_system: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A system whose agency does not know which agents there are, as on servers."""
    monkeypatch.setattr(
        anabranch.embedded, "build_agency", lambda resources, agents: build_agency(resources, None)
    )
    return anabranch_system


def test_an_agent_nobody_has_is_waited_for_in_peace(unjudged_system: Start) -> None:
    s = unjudged_system()
    result = s.run(request(task("out", "nobody"), task("other", inputs=1), timeout="1h"))

    assert (result.status, dict(result.results)) == ("timed_out", {"other": 1})
    assert result.duration_seconds == pytest.approx(3_600, abs=5)
    assert len(s.records("groups")) < 1_500
    assert len(s.records("tasks")) < 500
    assert len(s.records("events")) < 50


def test_an_agent_nobody_has_does_not_hold_the_groups_room(unjudged_system: Start) -> None:
    s = unjudged_system()
    tasks = [task("out", "nobody"), *(task(f"t{n}", inputs=n) for n in range(5))]
    document = {"timeout": "1h", "task_groups": [{"name": "g", "max_concurrency": 1, "tasks": tasks}]}

    run = s.submit(document)
    s.advance(30)
    completed = [event["task"] for event in run.events() if event["type"] == "task.completed"]
    result = run.result()

    assert completed == [f"t{n}" for n in range(5)]
    assert (result.status, dict(result.results)) == ("timed_out", {f"t{n}": n for n in range(5)})


def test_an_idle_system_appends_nothing(anabranch_system: Start) -> None:
    s = anabranch_system()
    s.run(request(task("quick", inputs=1)))
    topics = ["requests", "runs", "groups", "tasks", "events", "results", "dead-letters"]
    before = {topic: len(s.records(topic)) for topic in topics}
    s.advance(1_800)

    assert {topic: len(s.records(topic)) for topic in topics} == before


# --- limits of the request -----------------------------------------------------------------------


def test_a_request_of_nearly_a_megabyte_runs(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})
    long = "x" * 990_000
    result = s.run(request(task("out", "context", dependencies=["long"]), context={"long": long}), timeout=60)

    alive(s)
    assert result.results["out"] == {"long": long}


def test_long_names_and_labels_run(anabranch_system: Start) -> None:
    s = anabranch_system()
    labels = {f"label {n}": "ä" * 1_000 for n in range(300)}
    tasks = [task("ä" * 250 + f"{n:03}", inputs="x" * 1_000) for n in range(100)]
    result = s.run(request(*tasks, labels=labels), timeout=60)

    alive(s)
    assert result.completed


def test_the_same_request_twice_is_one_run_and_another_body_is_refused() -> None:
    calls: list[str] = []

    async def count(task: Task) -> int:
        calls.append(task.name)
        return len(calls)

    with system(agents={"count": count}) as s:
        first = s.run(request(task("out", "count"), request_id="r-1"))
        again = s.run(request(task("out", "count"), request_id="r-1"))
        other = s.run(request(task("other", "count"), request_id="r-1"))

    assert first == again
    assert calls == ["out"]
    assert (other.status, [error["code"] for error in other.errors]) == ("rejected", ["request_id_conflict"])
