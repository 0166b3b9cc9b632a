"""Runs that are idle for long, across a change of their owners, after the log has removed their first records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from owner_changes import Installation
from small_requests import request, task

from anabranch import Task
from anabranch.core.names import session_key
from anabranch.core.wire.codec import GROUPS, RUNS, Codec
from anabranch.core.wire.messages import Snapshot
from anabranch.ports import Incoming
from anabranch.runtime.ownership.replay import replay_begin
from anabranch.testing import System

Start = Callable[..., System]
MONTH = "30d"
IDLE = 700.0


async def double(each: Task) -> Any:
    return 2 * each.inputs["n"]


def waiting_request(**more: Any) -> dict[str, Any]:
    """A run that computes a value, then waits for a key from outside."""
    return request(
        task("first", "double", inputs={"n": 21}),
        task("last", "double", inputs={"n": "{go}"}, dependencies=["first"], external_dependencies=["go"]),
        timeout=MONTH,
        **more,
    )


def snapshots(s: System, topic: str, codec: Codec[Any]) -> list[Snapshot]:
    found = [codec.decode(record.value).message for record in s.records(topic)]
    return [message for message in found if isinstance(message, Snapshot)]


def remove_old_records(s: System) -> int:
    """Remove the records before the replay positions, as retention does. Returns how many."""
    names, broker = s.embedded.names, s.embedded.log._inner._broker  # type: ignore[attr-defined]
    removed = 0
    for group, topic in ((names.agency_runs, names.runs), (names.taskgroup_groups, names.groups)):
        for number, standing in broker.standing(group, topic, members=False).items():
            before = replay_begin(standing.committed)
            removed += max(0, before - standing.first)
            broker.trim(topic, number, before)
    return removed


def kept_records(s: System) -> list[Incoming]:
    names, broker = s.embedded.names, s.embedded.log._inner._broker  # type: ignore[attr-defined]
    places = [place for topic in (names.runs, names.groups) for place in broker.partitions(topic)]
    return [record for place in places for record in place.read(0, 1_000)]


def opens(record: Incoming) -> bool:
    return b'"type":"open_run"' in record.value or b'"type":"submit"' in record.value


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_run_of_a_month_needs_only_its_snapshot(anabranch_system: Start, killed: bool) -> None:
    s = anabranch_system(agents={"double": double})
    run = s.submit(waiting_request(session_id="s1"))
    s.advance(IDLE)
    assert [each.run_id for each in snapshots(s, "runs", RUNS)] == [run.run_id]
    assert [each.run_id for each in snapshots(s, "groups", GROUPS)] == [run.run_id]
    s.advance(30)

    assert remove_old_records(s) > 0
    assert not [each for each in kept_records(s) if opens(each)]
    parts = Installation(s, {"double": double})
    parts.end("agency", "taskgroup", killed=killed)
    parts.start("agency", "taskgroup")
    s.advance(20)
    s.publish("s1", "go", 4)

    result = run.result(timeout=120)
    assert (result.status, result.results) == ("completed", {"first": 42, "last": 8})


def test_an_idle_run_gets_one_snapshot_and_a_new_one_after_it_worked(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"double": double})
    run = s.submit(waiting_request(session_id="s1"))
    s.advance(4 * IDLE)
    assert len(snapshots(s, "groups", GROUPS)) == 1

    run.pause()
    s.advance(IDLE)

    before, after = snapshots(s, "groups", GROUPS)
    assert before.upto < after.upto
    assert len(snapshots(s, "runs", RUNS)) == 2


def test_a_run_that_ends_soon_gets_no_snapshot(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"double": double})
    s.run(request(task("t", "double", inputs={"n": 1})))
    s.advance(IDLE)

    assert snapshots(s, "runs", RUNS) == snapshots(s, "groups", GROUPS) == []


def test_values_of_a_restored_run_are_stored_again_after_the_store_was_emptied(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"double": double})
    names, store = s.embedded.names, s.embedded.store
    run = s.submit(waiting_request(session_id="s1", context={"greeting": "hello"}))
    s.advance(IDLE + 30)
    remove_old_records(s)

    parts = Installation(s, {"double": double})
    parts.end("agency", "taskgroup", killed=True)
    store._server.restart()  # type: ignore[attr-defined]
    parts.start("agency", "taskgroup")
    s.advance(60)

    keys = [session_key("s1", "greeting"), session_key("s1", "first"), names.tombstone(run.run_id)]
    greeting, first, record = s.wait(store.get(keys))
    assert (greeting, first) == (b'"hello"', b"42")
    assert record is not None
    s.publish("s1", "go", 4)
    assert run.result(timeout=120).status == "completed"
