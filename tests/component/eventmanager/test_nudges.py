"""Silent runs: which are nudged, when nudges end, and what a nudged owner does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from small_requests import alive, request, task

from anabranch import Task
from anabranch.core.wire.codec import GROUPS, encode
from anabranch.core.wire.events import decode_batch
from anabranch.core.wire.messages import Nudge
from anabranch.ports import Outgoing
from anabranch.testing import System
from anabranch_eventmanager.projection.nudges import MAX_NUDGES, NudgeSchedule

Start = Callable[..., System]
HOUR = 3_600.0


def nudges(s: System) -> list[Nudge]:
    found = [GROUPS.decode(record.value).message for record in s.records("groups")]
    return [message for message in found if isinstance(message, Nudge)]


def idle_hints(s: System) -> list[bool]:
    batches = [decode_batch(record.value) for record in s.records("events")]
    return [batch.quiet for batch in batches if batch.source == "groups"]


async def long(task: Task) -> int:
    await asyncio.sleep(3 * HOUR)
    return 1


@pytest.mark.parametrize(
    "spec",
    [
        task("t", external_dependencies=["news"]),
        task("t", "fail", {"times": 1}, retry={"strategy": "fixed", "delay": "2h", "max_attempts": 2}),
        task("t", "fail", on_failure="hold"),
    ],
    ids=["a key from outside", "a retry in two hours", "a held member"],
)
def test_a_run_with_a_declared_silence_is_not_nudged(anabranch_system: Start, spec: dict[str, Any]) -> None:
    s = anabranch_system()
    s.submit(request(spec))
    s.advance(1.9 * HOUR)

    assert nudges(s) == []
    assert idle_hints(s)[-1] is True
    alive(s)


def test_a_paused_run_is_not_nudged_and_a_resumed_one_is_no_longer_silent(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"long": long})
    run = s.submit(request(task("first", external_dependencies=["go"]), task("t", "long", dependencies=["first"])))
    run.pause()
    s.advance(1)
    s.publish(run.session_id, "go", 1)
    s.advance(2 * HOUR)
    paused = (nudges(s), idle_hints(s)[-1])
    run.resume()
    s.advance(1)

    assert paused == ([], True)
    assert idle_hints(s)[-1] is False


def test_empty_batches_are_no_events(anabranch_system: Start) -> None:
    s = anabranch_system()
    run = s.submit(request(task("t", external_dependencies=["news"]), session_id="s"))
    s.advance(60)
    s.publish("s", "news", 1)

    assert run.result(60).status == "completed"
    events = run.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert None not in [event["type"] for event in events]


def test_a_run_with_a_long_agent_on_a_live_worker_is_not_nudged_for_an_hour(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"long": long})
    run = s.submit(request(task("t", "long")))
    s.advance(0.9 * HOUR)
    early = nudges(s)

    assert run.result(4 * HOUR).status == "completed"
    assert early == []
    assert len(nudges(s)) <= 3


def test_nudges_of_a_run_without_an_owner_become_rarer_and_end(anabranch_system: Start) -> None:
    s = anabranch_system(nudge_after=10.0)
    stop_taskgroup(s)
    s.submit(request(task("t")))
    s.advance(5.5 * HOUR)

    found = [nudge.silent_for for nudge in nudges(s)]

    assert found[:3] == pytest.approx([10, 30, 70], abs=3)
    assert len(found) == MAX_NUDGES


def test_a_nudged_owner_repeats_its_reports_offers_and_reads(anabranch_system: Start) -> None:
    """The end of one group is lost, and a key from outside is set without a notification."""
    s = anabranch_system(nudge_after=20.0)
    lose_the_first(s, b'"group_finished"')
    other = {"name": "h", "tasks": [task("later", external_dependencies=["news"])]}
    groups = [*request(task("t"))["task_groups"], other]
    run = s.submit({"task_groups": groups, "session_id": "s"})
    s.advance(5)

    s.wait(s.embedded.log.publish([nudge_of(s, run.run_id)]))
    s.advance(5)
    reports = [each for each in s.records("runs") if b'"group_finished"' in each.value]
    s.publish("s", "news", 1)

    assert len(reports) == 1
    assert run.result(60).status == "completed"
    alive(s)


def nudge_of(s: System, run_id: str) -> Outgoing:
    return Outgoing("anabranch.groups", "s", encode(Nudge(run_id=run_id, silent_for=20)))


def stop_taskgroup(s: System) -> None:
    s.wait(next(service for service in s.embedded.services if service.name == "taskgroup").stop())


def lose_the_first(s: System, marked: bytes) -> None:
    """The TaskGroup's log client drops the first record that contains `marked`, and acknowledges it."""
    service: Any = next(service for service in s.embedded.services if service.name == "taskgroup")
    client = service._resources.log
    publish, lost = client.publish, []

    async def lossy(records: Sequence[Outgoing]) -> Sequence[int]:
        kept = [each for each in records if lost or marked not in each.value]
        if len(kept) < len(records):
            lost.append(marked)
        return list(await publish(kept))

    client.publish = lossy


def test_an_idle_run_is_not_due_before_its_next_event() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe("r", 0)
    schedule.observe_idle("r", 10)
    resting = schedule.due(100_000)
    schedule.observe("r", 100_000)

    assert (resting, len(schedule)) == ([], 1)
    assert [each.run_id for each in schedule.due(100_030)] == ["r"]


def test_the_number_of_nudges_in_one_silence_is_limited() -> None:
    schedule = NudgeSchedule(30)
    schedule.observe("r", 0)

    assert sum(len(schedule.due(now)) for now in range(0, 10_000_000, 1_000)) == MAX_NUDGES
