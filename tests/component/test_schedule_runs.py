"""Schedules from their control record to the ends of their runs, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from owner_changes import Installation
from small_requests import request, task

from anabranch.core.errors import RequestRefused
from anabranch.core.names import run_id_for
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Outgoing
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.testing import System

Start = Callable[..., System]
HOUR = 3_600.0
ECHO = request(task("t", "echo", "{scheduled_at}"))


def put(s: System, **fields: Any) -> Mapping[str, Any]:
    return s.wait(s.embedded.client.schedules.put({"id": "nightly", "request": ECHO, **fields}))


def show(s: System) -> Mapping[str, Any]:
    return s.wait(s.embedded.client.schedules.show("nightly"))


def act(s: System, action: str, **more: Any) -> Mapping[str, Any] | None:
    return s.wait(s.embedded.client.schedules.act(action, "nightly", **more))


def record(s: System, request_id: str) -> RunRecord | None:
    client = s.embedded.client
    [found] = s.wait(load_run_records(client.store, client.names, [run_id_for(request_id)]))
    return found


def missed_events(s: System) -> list[Mapping[str, Any]]:
    entries = [each for found in s.records("events") for each in orjson.loads(found.value).get("entries", ())]
    return [each["data"] for each in entries if each["type"] == "schedule.missed"]


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_each_firing_is_one_run_whichever_process_owns_it(anabranch_system: Start, killed: bool) -> None:
    s = anabranch_system()
    first = put(s, every="10m")["next"][0]
    s.advance(700)
    found = record(s, f"nightly@{first}")
    assert found is not None
    assert found.final is not None
    assert found.final["results"] == {"t": first}
    assert found.final["schedule"]["id"] == "nightly"

    parts = Installation(s, {})
    for _ in range(2):
        parts.end("agency", "taskgroup", killed=killed)
        s.advance(30)
        parts.start("agency", "taskgroup")
        s.advance(700)
    view = show(s)
    clocked = [each["at"] for each in view["history"] if each["status"] == "completed"]
    assert len(clocked) == len(set(clocked)) == view["fired"] >= 3
    assert view["running"] == []
    assert len(view["next"]) == 10


def test_a_control_record_from_kafka_has_the_fields_beside_its_type(anabranch_system: Start) -> None:
    s = anabranch_system()
    document = {"type": "schedule", "action": "put", "id": "nightly", "every": "10m", "request": ECHO}
    client = s.embedded.client
    s.wait(client.log.publish([Outgoing(client.names.requests, None, orjson.dumps(document))]))
    s.advance(1)
    assert show(s)["schedule"]["every"] == 600
    wrong = orjson.dumps({**document, "cron": "x", "request": {"task_groups": []}})
    s.wait(client.log.publish([Outgoing(client.names.requests, None, wrong)]))
    s.advance(1)
    [refused] = [orjson.loads(each.value) for each in s.records("results") if b"rejected" in each.value]
    assert {each["path"] for each in refused["errors"]} == {"/cron", "/request/task_groups"}


def test_a_paused_run_counts_as_running_and_a_missed_firing_is_an_event(anabranch_system: Start) -> None:
    s = anabranch_system()
    body = request({"name": "w", "wait": {"for": "10m"}}, task("t", "echo", "x", after=["w"]))
    view = put(s, every="30m", request=body, overlap="skip")
    s.advance(1_900)
    s.wait(s.embedded.client.control("pause", request_id=f"nightly@{view['next'][0]}"))
    s.advance(3_600)
    assert {each["reason"] for each in missed_events(s)} == {"overlap"}
    assert len(missed_events(s)) == 2
    assert [each["at"] for each in show(s)["running"]] == [view["next"][0]]


def test_the_commands_of_a_schedule(anabranch_system: Start) -> None:
    s = anabranch_system()
    put(s, every="1h", overlap="allow")
    assert act(s, "pause", by="ann", reason="holidays")["paused_by"]["reason"] == "holidays"  # type: ignore[index]
    act(s, "trigger")
    s.advance(5)
    assert [each["source"] for each in show(s)["history"]] == ["trigger"]
    act(s, "resume")
    act(s, "backfill", from_=s.embedded.client.links.clock.now() - 3 * HOUR)
    s.advance(20)
    assert [each["source"] for each in show(s)["history"]].count("backfill") == 3
    act(s, "delete")
    assert s.wait(s.embedded.client.schedules.list()) == []
    with pytest.raises(RequestRefused, match="there is no schedule"):
        show(s)


def test_a_definition_is_looked_up_at_each_firing(anabranch_system: Start) -> None:
    s = anabranch_system()
    put(s, every="10m", request=None, definition="greeting", input={"name": "Ada"}, overlap="allow")
    s.advance(700)
    [rejected] = show(s)["history"]
    assert (rejected["status"], "has no definition" in rejected["reason"]) == ("rejected", True)
    greeting = {"name": "greeting", "request": request(task("t", "echo", "{name}"))}
    s.wait(s.embedded.client.push_definition(greeting))
    s.advance(600)
    last = show(s)["history"][0]
    assert last["status"] == "completed"
    found = record(s, f"nightly@{last['at']}")
    assert found is not None
    assert found.final is not None
    assert found.final["results"] == {"t": "Ada"}
