"""Delays, timeouts and waits for keys across a change of the owner, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from owner_changes import Installation
from small_requests import request, task

from anabranch import Task
from anabranch.core.names import session_key
from anabranch.core.wire.fragments import is_fragment
from anabranch.operations.why.examination import Answer, examine
from anabranch.operations.why.observations import Sources
from anabranch.ports import TopicSpec, Write
from anabranch.runtime.process.settings import Settings
from anabranch.testing import System

Start = Callable[..., System]
HOUR = 3_600.0
HOW = pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])


@HOW
def test_a_retry_starts_at_its_time_whichever_process_owns_it(anabranch_system: Start, killed: bool) -> None:
    calls: list[float] = []

    async def flaky(task: Task) -> int:
        calls.append(s.elapsed)
        if len(calls) == 1:
            raise OSError("once")
        return task.attempt

    agents = {"flaky": flaky}
    s = anabranch_system(agents=agents)
    retry = {"strategy": "fixed", "delay": "10m", "max_attempts": 3}
    run = s.submit(request(task("t", "flaky", retry=retry)))
    s.advance(200)

    parts = Installation(s, agents)
    for _ in range(2):
        parts.end("taskgroup", killed=killed)
        s.advance(20)
        parts.start("taskgroup")
        s.advance(60)

    result = run.result(HOUR)
    assert (result.status, result.results) == ("completed", {"t": 2})
    assert calls[1] - calls[0] == pytest.approx(600, abs=5)


@HOW
def test_a_retry_that_became_due_without_an_owner_starts_at_once(anabranch_system: Start, killed: bool) -> None:
    s = anabranch_system()
    retry = {"strategy": "fixed", "delay": "10m", "max_attempts": 2}
    run = s.submit(request(task("t", "fail", {"times": 1}, retry=retry)))
    s.advance(60)
    parts = Installation(s, {})
    parts.end("taskgroup", "agency", killed=killed)
    s.advance(2 * HOUR)
    parts.start("agency", "taskgroup")

    assert run.result(60).status == "completed"


@HOW
def test_the_timeout_of_a_run_applies_across_owners(anabranch_system: Start, killed: bool) -> None:
    s = anabranch_system()
    run = s.submit(request(task("t", external_dependencies=["never"]), timeout="30m"))
    parts = Installation(s, {})
    for _ in range(2):
        s.advance(300)
        parts.end("agency", "taskgroup", killed=killed)
        s.advance(30)
        parts.start("agency", "taskgroup")

    assert run.result(HOUR).status == "timed_out"
    assert s.elapsed == pytest.approx(1_800, abs=15)


@HOW
def test_the_timeout_of_a_group_applies_across_owners_even_if_it_passed_meanwhile(
    anabranch_system: Start, killed: bool
) -> None:
    s = anabranch_system()
    document = request(task("t", external_dependencies=["never"]))
    document["task_groups"][0]["timeout"] = "10m"
    run = s.submit(document)
    s.advance(60)
    parts = Installation(s, {})
    parts.end("taskgroup", killed=killed)
    s.advance(HOUR)
    parts.start("taskgroup")

    result = run.result(120)
    assert (result.status, [failure["error_type"] for failure in result.failures]) == ("failed", ["GroupTimeout"])


@HOW
def test_an_external_key_is_found_whenever_it_was_set(anabranch_system: Start, killed: bool) -> None:
    """It is set while there is no owner to receive the message."""
    s = anabranch_system()
    run = s.submit(request(task("t", inputs="{news}", external_dependencies=["news"]), session_id="s"))
    parts = Installation(s, {})
    s.advance(HOUR)
    parts.end("taskgroup", killed=killed)
    s.publish("s", "news", "came")
    s.advance(120)
    parts.start("taskgroup")

    result = run.result(120)
    assert (result.status, result.results) == ("completed", {"t": "came"})


def test_an_external_key_that_is_set_without_a_message_is_found_within_minutes(
    anabranch_system: Start,
) -> None:
    s = anabranch_system()
    run = s.submit(request(task("t", inputs="{news}", external_dependencies=["news"]), session_id="s"))
    s.advance(5 * HOUR)
    s.wait(s.embedded.store.put([Write(session_key("s", "news"), b'"quiet"', 600.0)]))

    assert run.result(120).results == {"t": "quiet"}


# --- a first record in fragments -----------------------------------------------------------------------

RECORD_BYTES = 60_000
KEYS = [f"key_{number}" for number in range(30)]


def many_producers() -> dict[str, Any]:
    """A small request whose keys with policies have many producers, all of which the first record names."""
    tasks = [
        task(f"a_task_with_a_name_of_some_length_{number}", "later", result_keys=KEYS) for number in range(60)
    ]
    return request(*tasks, context_policies=dict.fromkeys(KEYS, "append"))


@HOW
def test_a_run_that_was_opened_by_fragments_continues_under_the_next_owner(
    anabranch_system: Start, killed: bool
) -> None:
    async def later(task: Task) -> dict[str, list[int]]:
        await asyncio.sleep(600)
        return {key: [1] for key in KEYS}

    s = anabranch_system(agents={"later": later})
    log: Any = s.embedded.log
    broker = log._inner._broker
    broker.max_record_bytes = RECORD_BYTES
    run = s.submit(many_producers())
    s.advance(30)
    records = [record for each in broker.partitions(s.embedded.names.groups) for record in each._records]
    assert any(is_fragment(record.value) for record in records)

    parts = Installation(s, {"later": later})
    parts.end("taskgroup", killed=killed)
    s.advance(20)
    parts.start("taskgroup")

    assert run.result(7_200).status == "completed"


# --- topics that were created again ------------------------------------------------------------------------


def create_again(s: System, *names: str) -> None:
    log: Any = s.embedded.log
    broker = log._inner._broker
    for name in names:
        count, settings = len(broker.partitions(name)), dict(broker.settings_of(name))
        broker.delete(name)
        broker.create(TopicSpec(name, count, settings))


@pytest.mark.parametrize("after_seconds", [2, 60], ids=["before the first commit", "later"])
def test_a_run_continues_if_the_store_is_emptied_after_the_topics_were_recreated(
    anabranch_system: Start, after_seconds: float
) -> None:
    """Messages between owners carry the generation of the topic, which the store has lost."""
    s = anabranch_system()
    names = s.embedded.names
    parts = Installation(s, {})
    parts.end("agency", "taskgroup", killed=False)
    create_again(s, names.runs, names.groups)
    parts.start("agency", "taskgroup")
    slow, after = task("slow", "sleep", {"seconds": 600}), task("after", dependencies=["slow"])
    groups = [{"name": each["name"], "tasks": [each]} for each in (task("first"), slow, after)]
    run = s.submit({"request_id": "q", "task_groups": groups})
    s.advance(after_seconds)
    assert why(s).status == "open"
    assert [each.task for each in why(s).missing] == ["slow", "after"]

    server: Any = s.embedded.store
    server._server.restart(keep=False)
    s.advance(60)
    parts.end("agency", "taskgroup", killed=True)
    s.advance(20)
    parts.start("agency", "taskgroup")

    result = run.result(HOUR)
    assert (result.status, sorted(result.results)) == ("completed", ["after", "first", "slow"])


def why(s: System) -> Answer:
    parts = s.embedded
    sources = Sources(parts.log, parts.store, parts.names)
    run_id = s.wait(parts.client.run_id_of("q"))
    return s.wait(examine(sources, Settings(), "q", run_id, parts.client.links.clock.now()))
