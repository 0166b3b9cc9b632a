"""`operations.why` finds each reason in the log and the store of a system in virtual time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from small_requests import array, request, task

from anabranch import Task
from anabranch.core.errors import Misconfigured
from anabranch.core.names import run_id_for
from anabranch.core.reasons import MEANINGS, Fact, Missing, aggregated, merged, roots_first, shown
from anabranch.core.waiting import waits_for
from anabranch.operations.why.evidence import Evidence, RequiredPartition, WaitingOffer
from anabranch.operations.why.examination import Answer, examine
from anabranch.operations.why.observations import Sources
from anabranch.ports import Committed, Outgoing, Standing, Write
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.reading.views import load_view
from anabranch.testing import System

Start = Callable[..., System]
HOUR = 3_600.0


def why(s: System, run: str) -> Answer:
    parts = s.embedded
    sources = Sources(parts.log, parts.store, parts.names)
    run_id = s.wait(parts.client.run_id_of(run))
    now = parts.client.links.clock.now()
    return s.wait(examine(sources, Settings(), run, run_id, now))


def facts(answer: Answer) -> list[tuple[Any, ...]]:
    return [(each.task, str(each.fact), each.members, each.key) for each in answer.missing]


def stop(s: System, *names: str) -> None:
    for service in s.embedded.services:
        if service.name in names:
            s.wait(service.stop())


async def long(task: Task) -> int:
    await asyncio.sleep(HOUR)
    return 1


def test_every_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Fact)


def test_running_waiting_and_unoffered_members_are_separate_entries(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"long": long})
    fan = task("fan", "long", max_concurrency=4, expansion_config=array(list(range(10))))
    s.submit(
        request(fan, task("after", dependencies=["fan"]), task("last", dependencies=["after"]), request_id="q")
    )
    s.advance(60)

    answer = why(s, "q")

    assert (answer.status, answer.run_id, answer.request_id) == ("open", run_id_for("q"), "q")
    assert facts(answer) == [
        ("fan", "claimed", ((0, 4),), None),
        ("fan", "waits_for_room", ((4, 10),), None),
        ("after", "waits_for_key", None, "fan"),
        ("last", "waits_for_key", None, "after"),
    ]
    claimed = answer.missing[0].to_document()
    assert (claimed["indexes"], claimed["count"], claimed["index"], claimed["alive"]) == ("0-3", 4, None, True)
    assert claimed["topic"] == "anabranch.groups"


def test_an_offer_says_behind_how_many_of_which_level_it_is(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"long": long}, concurrency=1)
    high = [s.submit(request(task("t", "long"), priority="high")) for _ in range(6)]
    s.advance(1)
    low = s.submit(request(task("t", "long"), priority="low"))
    s.advance(1)

    [found] = why(s, low.run_id).missing
    assert found.fact is Fact.BEHIND_LAG
    assert found.topic == s.embedded.names.tasks()  # levels have no topics yet
    assert found.detail is not None
    assert re.fullmatch(r"behind \d+ offers of level high(, \d+ offers? of level low)?", found.detail)
    for run in (*high, low):
        run.cancel()


def test_a_pool_without_workers_is_named(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"long": long})
    run = s.submit(request(task("t", "long", pool="gpu")))
    s.advance(7)

    found = {missing.fact: missing for missing in why(s, run.run_id).missing}
    assert "no worker of the pool 'gpu' reads offers" in str(found[Fact.NO_OWNER].detail)
    view = s.wait(load_view(s.embedded.store, s.embedded.names, run.run_id))
    assert view is not None
    assert "a worker of the pool 'gpu', which has none, since" in str(waits_for(view, 1e12))
    run.cancel()


def test_a_retry_says_which_attempt_is_due_and_when(anabranch_system: Start) -> None:
    s = anabranch_system()
    retry = {"strategy": "fixed", "delay": 600, "max_attempts": 3}
    s.submit(request(task("flaky", "fail", {"times": 2}, retry=retry), request_id="q"))
    s.advance(100)

    [entry] = why(s, "q").missing

    assert (entry.fact, entry.attempt) == (Fact.WAITS_FOR_RETRY, 2)
    assert entry.until is not None
    assert entry.since is not None
    assert entry.until - entry.since == pytest.approx(600, abs=1)


def test_a_key_from_outside_and_a_pause(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"long": long}, concurrency=2)
    outside = s.submit(request(task("out", external_dependencies=["news"]), request_id="outside"))
    paused = s.submit(request(task("wide", "long", expansion_config=array([1] * 500)), request_id="paused"))
    s.advance(1)
    paused.pause()
    s.advance(1)

    assert [(e.fact, e.key) for e in why(s, outside.run_id).missing] == [(Fact.WAITS_FOR_EXTERNAL_KEY, "news")]
    entries = why(s, "paused").missing
    assert {each.fact for each in entries} <= {Fact.PAUSED, Fact.CLAIMED, Fact.OFFERED, Fact.BEHIND_LAG}
    assert sum(each.count for each in entries) == 500
    assert sum(each.count for each in entries if each.fact is Fact.PAUSED) > 50


def test_a_held_member_is_held(anabranch_system: Start) -> None:
    s = anabranch_system()
    s.submit(request(task("t", "fail", on_failure="hold", expansion_config=array([1, 2])), request_id="q"))
    s.advance(30)

    assert facts(why(s, "q")) == [("t", "held", ((0, 2),), None)]


def test_a_stored_but_unpublished_final_record_is_missing(anabranch_system: Start) -> None:
    """The Agency dies between the two; with the final record on the log nothing is missing."""
    s = anabranch_system()
    announced = s.submit(request(task("t"), request_id="announced"))
    announced.result(60)
    stop(s, "agency")
    complete = why(s, "announced")
    unannounced = s.wait(unannounced_copy(s, announced.run_id))

    assert (complete.status, complete.missing) == ("completed", [])
    assert (unannounced.status, [each.fact for each in unannounced.missing]) == (
        "completed",
        [Fact.NO_OWNER, Fact.NOT_ANNOUNCED],
    )


async def unannounced_copy(s: System, run_id: str) -> Answer:
    """A run with another id and the same tombstone; the results topic has no record of it."""
    parts = s.embedded
    [tombstone] = await parts.store.get([parts.names.tombstone(run_id)])
    assert tombstone is not None
    other = run_id_for("other")
    await parts.store.put([Write(parts.names.tombstone(other), tombstone, 600.0)])
    await parts.log.publish([Outgoing(parts.names.runs, other, b"{}")])
    now = parts.client.links.clock.now()
    return await examine(Sources(parts.log, parts.store, parts.names), Settings(), "other", other, now)


def test_a_rejected_request_has_a_reason(anabranch_system: Start) -> None:
    s = anabranch_system()
    spec = request(task("lost", "nonesuch"), request_id="q")
    s.wait(s.embedded.log.publish([Outgoing("anabranch.requests", None, orjson.dumps(spec))]))
    s.advance(30)

    answer = why(s, "q")

    assert (answer.status, answer.missing) == ("rejected", [])
    assert "nonesuch" in (answer.reason or "")


def test_a_request_that_no_agency_has_read_is_not_admitted(anabranch_system: Start) -> None:
    s = anabranch_system()
    stop(s, "agency")
    s.submit(request(task("t"), request_id="q"))

    found = [(each.fact, each.topic, each.lag) for each in why(s, "q").missing]

    assert found == [(Fact.NO_OWNER, "anabranch.requests", 1), (Fact.NOT_ADMITTED, "anabranch.requests", 1)]


def test_reasons_are_found_while_no_service_runs(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"long": long})
    s.submit(request(task("fan", "long", expansion_config=array(list(range(3)))), request_id="q"))
    s.advance(60)
    stop(s, "agency", "taskgroup", "eventmanager")

    found = [(each.task, each.fact, each.topic) for each in why(s, "q").missing]

    assert (None, Fact.NO_OWNER, "anabranch.runs") in found
    assert (None, Fact.NO_OWNER, "anabranch.groups") in found
    assert [each for each in found if each[0] == "fan"] != []


def test_members_of_a_session_without_an_owner_have_reason_no_owner(anabranch_system: Start) -> None:
    s = anabranch_system()
    stop(s, "taskgroup")
    side = list(range(1_000))
    matrix = {"type": "matrix", "array_mapping": {"x": side, "y": side}}
    s.submit(request(task("t", expansion_config=matrix), request_id="q"))
    s.advance(60)

    answer = why(s, "q")

    assert [each.fact for each in answer.missing if each.task is None][:1] == [Fact.NO_OWNER]
    members = [each for each in answer.missing if each.task == "t"]
    assert {each.fact for each in members} == {Fact.NO_OWNER, Fact.WAITS_FOR_ROOM}
    assert sum(each.count for each in members) == 1_000_000
    assert len(answer.missing) < 6


def test_an_ended_run_lacks_nothing_and_an_unknown_run_is_an_error(anabranch_system: Start) -> None:
    s = anabranch_system()
    s.run(request(task("t"), request_id="q"))

    answer = why(s, "q")

    assert (answer.status, answer.missing, answer.is_open) == ("completed", [], False)
    assert answer.ended_at is not None
    with pytest.raises(Misconfigured, match="there is no run with this run id or request id"):
        why(s, "other")


def test_records_that_the_log_lost_are_found_and_can_be_published_again(anabranch_system: Start) -> None:
    """The log acknowledges the records of the start and the end of a group, but loses both."""
    for lost in (b'"start_group"', b'"group_finished"'):
        s = anabranch_system()
        lose_once(s, lost)
        s.submit(request(task("t"), request_id="q"))
        s.advance(60)

        answer = why(s, "q")

        expected = Fact.NEVER_PRODUCED if b"start" in lost else Fact.NOT_ANNOUNCED
        assert [(each.group, each.fact) for each in answer.missing] == [("g", expected)]
        assert answer.lost_records != []
        s.wait(s.embedded.log.publish(answer.lost_records))
        s.advance(10)
        assert why(s, "q").status == "completed"


def lose_once(s: System, marked: bytes) -> None:
    """Each service's log client drops the first record that contains `marked`, and acknowledges it."""
    for service in s.embedded.services[:2]:
        client: Any = service._resources.log  # type: ignore[attr-defined]
        publish, lost = client.publish, []

        async def lossy(
            records: Sequence[Outgoing], publish: Any = publish, lost: list[Outgoing] = lost
        ) -> Sequence[int]:
            first = next((each for each in records if marked in each.value and not lost), None)
            if first is not None:
                lost.append(first)
                records = [each for each in records if each is not first]
            return list(await publish(records))

        client.publish = lossy


# --- the evidence -------------------------------------------------------------------------------------

OFFERED = Missing(Fact.OFFERED, "g", "t", members=((0, 5),))
OWNED = RequiredPartition("groups", 1, Standing(Committed(7), 0, 9, "member"))
NOBODYS = RequiredPartition("groups", 1, Standing(Committed(7), 0, 9, None))


def reason_of(evidence: Evidence, *, bounced: bool = False) -> Missing:
    return evidence.with_reason(OFFERED, "claim", (3, 0), bounced=bounced)


def test_the_reason_of_an_offered_chunk_depends_on_its_claim_and_its_readers() -> None:
    claimed = reason_of(Evidence(OWNED, "tasks", {"claim": "w"}, {"w": True}))
    gone = reason_of(Evidence(NOBODYS, "tasks", {"claim": "w"}))
    waiting = reason_of(Evidence(OWNED, "tasks", waiting_offers={("g", "t", 3, 0): WaitingOffer(2, 40, 11)}))
    earlier = reason_of(Evidence(OWNED, "tasks", waiting_offers={("g", "t", 2, 0): WaitingOffer(2, 40, 11)}))

    assert (claimed.fact, claimed.worker, claimed.alive) == (Fact.CLAIMED, "w", True)
    assert (gone.fact, gone.alive) == (Fact.CLAIMED, False)
    assert (waiting.fact, waiting.topic, waiting.partition, waiting.offset, waiting.lag) == (
        Fact.BEHIND_LAG,
        "tasks",
        2,
        40,
        11,
    )
    assert earlier.fact is Fact.OFFERED
    assert reason_of(Evidence(NOBODYS, "tasks")).fact is Fact.NO_OWNER
    assert reason_of(Evidence(OWNED, "tasks"), bounced=True).fact is Fact.NO_AGENT


def test_a_slow_owner_is_distinguished_from_trailing_commits() -> None:
    fresh, stale = (replace(OWNED, oldest_waiting=100.0).unhealthy_reason(now, 5.0) for now in (114.0, 116.0))
    nobody = NOBODYS.unhealthy_reason(116.0, 5.0)

    assert fresh is None
    assert stale is not None
    assert nobody is not None
    assert (stale.fact, stale.offset, stale.lag, stale.since) == (Fact.BEHIND_LAG, 7, 2, 100.0)
    assert (nobody.fact, nobody.lag) == (Fact.NO_OWNER, 2)


# --- the entries -------------------------------------------------------------------------------------


def test_members_with_one_reason_are_one_entry() -> None:
    claimed = [
        Missing(Fact.CLAIMED, "g", "t", members=((n * 10, n * 10 + 10),), worker=f"w{n % 2}", since=float(n))
        for n in range(1_000)
    ]
    whole = [Missing(Fact.CLAIMED, "g", name, worker="w0") for name in ("a", "b")]

    found = aggregated([*claimed, *whole])

    assert [(each.task, each.worker, each.count, each.since) for each in found] == [
        ("t", "w0", 5_000, 0.0),
        ("t", "w1", 5_000, 1.0),
        ("a", "w0", 1, None),
        ("b", "w0", 1, None),
    ]
    assert len(found[0].to_document()["indexes"]) < 2_000


def test_ranges_are_written_with_both_ends() -> None:
    assert shown(merged([(5, 6), (0, 3), (3, 5), (9, 10)])) == "0-5,9"


def test_a_single_member_has_an_index() -> None:
    document = Missing(Fact.OFFERED, "g", "t", members=((4, 5),)).to_document()

    assert (document["index"], "indexes" in document, document["fact"]) == (4, False, "offered")


def test_causes_come_before_their_dependents_in_a_long_chain() -> None:
    chain = [Missing(Fact.WAITS_FOR_KEY, "g", f"t{n}", key=f"k{n - 1}") for n in range(5_000, 0, -1)]
    root = Missing(Fact.CLAIMED, "g", "t0")
    owner = Missing(Fact.NO_OWNER, topic="groups")
    producers = {f"k{n}": ("g", f"t{n}") for n in range(5_001)}

    found = roots_first([*chain, root, owner], producers)

    assert found[:2] == [owner, root]
    assert [each.task for each in found[2:]] == [f"t{n}" for n in range(1, 5_001)]
