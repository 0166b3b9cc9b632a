"""The fold of the cache: an answer counts once, a flight is passed on in every ending, a snapshot has it all."""

from __future__ import annotations

from typing import Any

from flow_runs import RULES, FlowRun, order

from anabranch.core.request.cache_fields import Cache
from anabranch.core.request.models import Expansion
from anabranch.core.wire import messages as m
from anabranch.runtime.ownership.effects import StorePut
from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.derive import derive
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.snapshots import CODEC, encode_run
from anabranch_taskgroup.session.turn import LookUpCache

KEYS = ("k0", "k1", "k0")
ORIGIN = m.CacheOrigin(run_id="before", group="g", task="t", index=1, at=0.5)


def flow(members: int = 3, **more: Any) -> FlowRun:
    expansion = Expansion(type="array", array_mapping={"n": list(range(members))})
    return FlowRun({"g": [order("t", expansion=expansion, cache=Cache(ttl=60), **more)]})


def answer(run: FlowRun, number: int, key: str, hit: str | None = None) -> m.CacheLooked:
    index = next(run.task("t").looking[number].pending.indexes()) if number in run.task("t").looking else number
    hits = () if hit is None else (m.CacheHit(index=index, origin=ORIGIN),)
    message = m.CacheLooked(run_id="r", group="g", task="t", chunk=number, keys=(key,), hits=hits)
    run.feed(message, *([] if hit is None else [f'["{hit}"]'.encode()]))
    return message


def test_nothing_is_offered_before_the_cache_was_read() -> None:
    run = flow()

    assert (run.offered, sorted(run.task("t").looking)) == ([], [0, 1, 2])
    assert [each for each in derive(run.run) if isinstance(each, LookUpCache)] == [
        LookUpCache("r", "g", "t", number) for number in range(3)
    ]


def test_an_answer_counts_once() -> None:
    run = flow()
    message = answer(run, 0, "k0", hit="cached")
    for _ in range(2):
        run.feed(message, b'["cached"]')
    answer(run, 1, "k1")
    answer(run, 1, "k1")

    assert (run.task("t").ended, run.offered) == (1, ["t"])
    [event] = [each for each in run.events if each["type"] == "task.completed"]
    assert event["cached_from"]["run_id"] == "before"


def test_one_of_the_members_with_a_key_runs() -> None:
    run = flow()
    for number, key in enumerate(KEYS):
        answer(run, number, key)
    assert run.offered == ["t", "t"]
    turn = run.complete("t", "new", index=0)

    assert run.task("t").ended == 2
    [put] = [each for each in turn.effects if isinstance(each, StorePut) and each.key.endswith(":cached")]
    assert b'"values":["new"]' in put.value
    run.complete("t", "other", index=1)
    assert run.finished["g"].results == {"t": ["new", "other", "new"]}


def test_the_next_one_runs_if_the_first_fails() -> None:
    run = flow(tolerated_failures=1)
    for number, key in enumerate(KEYS):
        answer(run, number, key)
    run.fail("t", index=0)
    assert run.offered == ["t", "t", "t"]
    run.complete("t", "late", index=2)
    run.complete("t", "other", index=1)

    assert run.finished["g"].results == {"t": ["other", "late"]}


def test_a_value_that_is_too_old_is_not_taken_over() -> None:
    run = flow()
    old = ORIGIN.model_copy(update={"at": -100.0})
    hits = (m.CacheHit(index=0, origin=old),)
    run.feed(m.CacheLooked(run_id="r", group="g", task="t", chunk=0, keys=("k0",), hits=hits), b'["old"]')

    assert (run.task("t").ended, run.offered) == (0, ["t"])


def test_a_lost_chunk_is_offered_again_and_keeps_its_key() -> None:
    run = flow()
    for number, key in enumerate(KEYS):
        answer(run, number, key)
    chunk = next(each for each in run.task("t").chunks.values() if 0 in each.pending)
    about = {"run_id": "r", "group": "g", "task": "t", "worker": "w"}
    run.feed(m.ChunkLost(**about, chunk=chunk.number, fence=chunk.fence))

    assert (run.offered, run.task("t").looking) == (["t"] * 3, {})
    run.complete("t", "new", index=0)
    assert run.task("t").ended == 2


def test_a_stop_leaves_no_flight() -> None:
    run = flow()
    for number, key in enumerate(KEYS):
        answer(run, number, key)
    state = run.run
    run.feed(m.StopRun(run_id="r", reason="cancelled"))

    assert state.flights == {}
    assert run.finished["g"].status == "cancelled"


def test_a_snapshot_and_a_second_fold_have_it_all() -> None:
    run = flow()
    answer(run, 0, "k0")
    answer(run, 2, "k0")
    document, blobs = CODEC.write(run.run)
    again = CODEC.read(document, blobs)
    other = PartitionState(0)
    for delivery in run.log:
        decide(RULES, other, delivery)

    task = again.groups["g"].tasks["t"]
    assert (again.flights, task.looking, task.cache_keys) == (
        run.run.flights,
        run.task("t").looking,
        {0: "k0"},
    )
    assert encode_run(other.runs["r"]) == encode_run(run.run)
