"""Kept events and waits for events, across a change of their owners, and after the log lost its first records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from owner_changes import Installation

from anabranch.operations.why.examination import examine
from anabranch.operations.why.observations import Sources
from anabranch.ports import Incoming
from anabranch.runtime.ownership.replay import replay_begin
from anabranch.runtime.process.settings import Settings
from anabranch.testing import System

Start = Callable[..., System]
HOUR = 3_600.0
IDLE = 700.0
HOW = pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])


def waits(name: str, key: str = "k", **more: Any) -> dict[str, Any]:
    return {"name": name, "wait": {"event": {"name": "paid", "key": key, **more.pop("event", {})}, **more}}


def request_of(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"timeout": "60d", "task_groups": [{"name": "g", "tasks": list(tasks)}], **fields}


def publish(s: System, data: Any = None, key: str = "k", **more: Any) -> None:
    s.wait(s.embedded.client.publish("paid", key, data, **more))


def renew(s: System, parts: Installation, killed: bool) -> None:
    """End both owners, and start their successors."""
    parts.end("agency", "taskgroup", killed=killed)
    s.advance(20)
    parts.start("agency", "taskgroup")
    s.advance(30)


def remove_old_records(s: System) -> list[Incoming]:
    """Remove the records before the replay positions, as retention does. Returns the records of `runs` left."""
    names, broker = s.embedded.names, s.embedded.log._inner._broker  # type: ignore[attr-defined]
    for group, topic in ((names.agency_runs, names.runs), (names.taskgroup_groups, names.groups)):
        for number, standing in broker.standing(group, topic, members=False).items():
            broker.trim(topic, number, replay_begin(standing.committed))
    return [record for place in broker.partitions(names.runs) for record in place.read(0, 1_000)]


@HOW
def test_an_event_is_kept_across_owners(anabranch_system: Start, killed: bool) -> None:
    s = anabranch_system()
    publish(s, {"n": 1}, id="e1")
    renew(s, Installation(s, {}), killed)

    assert s.run(request_of(waits("w"))).results == {"w": {"n": 1}}
    publish(s, {"n": 2}, id="e1")
    again = s.run(request_of(waits("a"), waits("b", timeout=5, on_timeout="value", value="none")))
    assert again.results == {"a": {"n": 1}, "b": "none"}


@HOW
def test_a_wait_is_registered_across_owners(anabranch_system: Start, killed: bool) -> None:
    s = anabranch_system()
    handle = s.submit(request_of(waits("w")))
    s.advance(5)
    renew(s, Installation(s, {}), killed)
    publish(s, "here")

    assert handle.result(60).results == {"w": "here"}


@HOW
def test_kept_events_and_waits_need_only_their_snapshots(anabranch_system: Start, killed: bool) -> None:
    s = anabranch_system()
    publish(s, "kept", ttl="30d")
    handle = s.submit(request_of(waits("w", event={"when": 'data != "kept"'})))
    s.advance(IDLE)
    s.advance(30)
    left = remove_old_records(s)
    assert not [record for record in left if b'"type":"event"' in record.value or b"wait_opened" in record.value]

    renew(s, Installation(s, {}), killed)

    assert s.run(request_of(waits("early"))).results == {"early": "kept"}
    publish(s, "new")
    assert handle.result(60).results == {"w": "new"}


def test_an_event_that_comes_without_an_owner_is_delivered_by_the_next(anabranch_system: Start) -> None:
    s = anabranch_system()
    handle = s.submit(request_of(waits("w")))
    s.advance(5)
    parts = Installation(s, {})
    parts.end("agency", killed=True)
    publish(s, "here")
    s.advance(60)
    parts.start("agency")

    assert handle.result(60).results == {"w": "here"}


def test_an_event_and_the_timeout_in_the_same_second_end_a_wait_once(anabranch_system: Start) -> None:
    s = anabranch_system()
    for number in range(6):
        key = f"k{number}"
        timed = waits("w", key, timeout=30, on_timeout="value", value="late")
        handle = s.submit(request_of(timed, waits("next", key)))
        s.advance(29.5 + number * 0.2)
        publish(s, number, key)
        s.advance(2)
        publish(s, "second", key)

        results = handle.result(60).results
        assert results in ({"w": number, "next": "second"}, {"w": "late", "next": number}), results


def test_why_says_which_event_a_task_waits_for(anabranch_system: Start) -> None:
    s = anabranch_system()
    handle = s.submit(request_of(waits("w"), request_id="q"))
    s.advance(10)
    parts = s.embedded
    sources = Sources(parts.log, parts.store, parts.names)

    answer = s.wait(examine(sources, Settings(), "q", handle.run_id, parts.client.links.clock.now()))

    [missing] = [each.to_document() for each in answer.missing]
    found = {name: missing[name] for name in ("fact", "task", "name", "key")}
    assert found == {"fact": "waits_for_event", "task": "w", "name": "paid", "key": "k"}
    assert missing["since"] is not None
