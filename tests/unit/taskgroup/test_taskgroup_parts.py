"""Small parts of the worker and the session's owner: the state table, chunk sizes, packing, the claim monitor."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from taskgroup_model import PlannedRun, PlannedTask, World, order

from anabranch.core.names import Names
from anabranch.core.outputs import join
from anabranch.core.ranges import Ranges
from anabranch.core.request.models import Expansion
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.messages import MemberFailed, MemberRetry, MembersReported, Offer, ValuePage
from anabranch.runtime.ownership.effects import StorePut
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.attempt_order import by_attempt
from anabranch_taskgroup.session.chunks import chunk_size
from anabranch_taskgroup.session.claim_monitor import (
    FIRST_WAIT,
    MAX_WAIT,
    SETTLE_SECONDS,
    ChunkDelivery,
    ClaimMonitor,
)
from anabranch_taskgroup.session.groups import split_results
from anabranch_taskgroup.session.states import (
    ENDINGS,
    TRANSITIONS,
    IllegalTransition,
    TaskEvent,
    TaskState,
    next_state,
)
from anabranch_taskgroup.session.steps.joins import tolerated
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import DecisionConfig
from anabranch_taskgroup.worker import reports
from anabranch_taskgroup.worker.reports import Completed, PendingReport, cut_value, pack, spans_of

NAMES = Names("t.")
RULES = DecisionConfig(NAMES)

# --- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", TaskState)
def test_every_event_leads_on_or_is_refused(state: TaskState) -> None:
    for event in TaskEvent:
        if event in TRANSITIONS[state]:
            assert next_state(state, event) is TRANSITIONS[state][event]
        else:
            with pytest.raises(IllegalTransition, match=state):
                next_state(state, event)


def test_endings_are_final_and_every_other_state_reaches_one() -> None:
    assert {state for state, steps in TRANSITIONS.items() if not steps} == ENDINGS
    for state in set(TaskState) - ENDINGS:
        assert next_state(state, TaskEvent.CANCEL) is TaskState.CANCELLED
        assert next_state(state, TaskEvent.TIME_OUT) is TaskState.TIMED_OUT


# --- chunks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "left", "seconds", "size"),
    [
        (1, 1, None, 1),
        (100, 100, None, 1),
        (6_400, 6_400, None, 100),
        (1_000_000, 1_000_000, None, 100),
        (1_000_000, 900_000, 0.001, 500),
        (1_000_000, 900_000, 0.01, 100),
        (1_000_000, 900_000, 30.0, 1),
        (10_000, 32, 0.001, 2),
        (10_000, 1, 0.0, 1),
    ],
)
def test_a_chunk_is_about_a_second_of_work_and_small_near_the_end(
    total: int, left: int, seconds: float | None, size: int
) -> None:
    assert chunk_size(RULES, total, left, seconds) == size


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.none() | st.floats(0, 1e6))
def test_a_chunk_is_never_empty_nor_more_than_is_left(total: int, left: int, seconds: float | None) -> None:
    assert 1 <= chunk_size(RULES, max(total, left), left, seconds) <= min(left, RULES.chunk_limit)


def test_members_with_earlier_attempts_are_distinguished() -> None:
    assert by_attempt(((0, 4),), {2: 1, 9: 3}) == [(1, ((0, 2), (3, 4))), (2, ((2, 3),))]
    assert by_attempt((), {1: 1}) == []


@pytest.mark.parametrize(("allowed", "count"), [(3, 3), ("5%", 2), ("100%", 59), ("1%", 0), ("0%", 0)])
def test_a_share_of_failures_is_rounded_down(allowed: Any, count: int) -> None:
    task = Task(order("t", [], Expansion(type="array", array_mapping={"i": []}), tolerated_failures=allowed), "g")
    task.total = 59

    assert tolerated(task) == count


def test_results_are_split_so_that_each_part_fits_a_record() -> None:
    results = {f"k{n}": "x" * 60_000 for n in range(40)}

    parts = split_results(results)

    assert {key: value for part in parts for key, value in part.items()} == results
    assert max(len(orjson.dumps(part)) for part in parts) < 600_000
    assert split_results({}) == [{}]


# --- packing -------------------------------------------------------------------------------------

OFFER = Offer(
    run_id="r", session_id="s", group="g", task="t", agent="a", chunk=0, fence=0, spans=((0, 9),), deadline=1e9,
    claim_ttl=1.0, expanded=True,
)  # fmt: skip
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def packed(
    tally: PendingReport, keys: Sequence[str] = ("k",), *, last: bool = True, named: bool = False
) -> list[Any]:
    records = list(pack(OFFER, "w", keys, tally, last=last, busy=0.5, with_identifiers=named))
    assert max(map(len, records)) < 1_000_000
    return [GROUPS.decode(record) for record in records]


@pytest.mark.parametrize("size", [10, 50_000, 399_998, 400_001, 3_000_000])
def test_every_record_of_a_report_is_under_the_limit(size: int) -> None:
    value = orjson.dumps("x" * size)
    tally = PendingReport(completed=[Completed(index, [value], [1]) for index in range(6)])

    found = packed(tally)

    reports = [each.message for each in found if isinstance(each.message, MembersReported)]
    assert [index for report in reports for index in Ranges(report.completed).indexes()] == list(range(6))
    assert [report.last for report in reports] == [False] * (len(reports) - 1) + [True]


def test_long_failures_and_retries_are_split_and_none_is_left_out() -> None:
    text = "\u0001ä" * 1_000
    tally = PendingReport(
        started=list(range(500)),
        failed=[MemberFailed(index=n, error_type="E", message=text, attempts=1) for n in range(500)],
        retried=[MemberRetry(index=n, attempt=1, delay=None, error_type="E", message=text) for n in range(500)],
        progress=dict.fromkeys(range(500), (0.5, text)),
    )

    reports = [each.message for each in packed(tally)]

    assert [failure.index for report in reports for failure in report.failed] == list(range(500))
    assert [retry.index for report in reports for retry in report.retried] == list(range(500))
    assert [index for report in reports for index, _, _ in report.progress] == list(range(500))
    assert reports[0].started == ((0, 500),)
    assert not any(report.started for report in reports[1:])


def test_an_empty_report_is_still_a_last_report() -> None:
    [only] = packed(PendingReport())

    assert (only.message.last, only.message.completed, only.segments) == (True, (), ())


@given(st.lists(st.integers(0, 10**5), unique=True))
def test_spans_hold_exactly_the_indexes(indexes: list[int]) -> None:
    assert list(Ranges(spans_of(indexes)).indexes()) == sorted(indexes)


@given(JSON | st.lists(st.text(min_size=1_000, max_size=1_000), max_size=3))
@settings(deadline=None)
def test_pages_of_a_value_make_the_value_again(value: Any) -> None:
    assume(value != [])  # no empty list is large

    pages, items = cut_value(orjson.dumps(value))

    if items is None:
        assert orjson.loads(b"".join(pages)) == value
    else:
        assert [item for page in pages for item in orjson.loads(page)] == value
        assert sum(items) == len(value)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_any_values_in_any_chunks_are_joined_exactly(data: st.DataObject) -> None:
    """Values are packed as by a worker, stored as by the owner, and read as by a client."""
    found = data.draw(st.lists(JSON, min_size=1, max_size=8))
    output_format = data.draw(st.sampled_from(["merge", "separate", "single", "index"]))
    expansion = Expansion(type="array", array_mapping={"i": list(range(len(found)))}, output_format=output_format)
    task = PlannedTask(order("k", [], expansion), "g", None, frozenset(), frozenset(), False)
    monkey = data.draw(st.sampled_from([reports.LARGE_BYTES, 12])), data.draw(st.sampled_from([256_000, 7]))
    limit = data.draw(st.sampled_from([1, 20, 65_536]))
    world = World([PlannedRun("r", (task,), {})], data.draw(st.randoms(use_true_random=False)), 0, limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "LARGE_BYTES", monkey[0])
        patch.setattr(reports, "PAGE_BYTES", monkey[1])
        _work_off(world, found, output_format)

    [[finished]] = world.finished.values()
    must = join(output_format, [(n, str(n), value) for n, value in enumerate(found)], len(found))
    assert world.resolved(finished.results["k"]) == must
    if output_format == "separate":
        assert [world.resolved(finished.results[f"{n}_k"]) for n in range(len(found))] == found


def _work_off(world: World, found: Sequence[Any], output_format: str) -> None:
    [run] = world.runs.values()
    for message in run.messages():
        world.feed(message)
    while world.workers:
        worker = world.workers.pop(0)
        done = [_completed(index, found[index]) for index in worker.left]
        world._note_ended(worker, worker.left)
        offer = OFFER.model_copy(update={"task": "k", "chunk": worker.offer.chunk, "fence": worker.fence})
        tally = PendingReport(completed=done)
        named = output_format == "separate"
        for record in pack(offer, "w", ["k"], tally, last=True, busy=0.1, with_identifiers=named):
            decoded = GROUPS.decode(record)
            world.feed_once(decoded.message, decoded.segments)


def _completed(index: int, value: Any) -> Completed:
    return Completed(index, [orjson.dumps(value)], [len(value) if isinstance(value, list) else 1], str(index))


def test_a_page_of_an_earlier_delivery_is_not_kept() -> None:
    task = PlannedTask(order("k", [], None), "g", None, frozenset(), frozenset(), False)
    world = World([PlannedRun("r", (task,), {})], Random(0), 0, 65_536)
    for message in world.runs["r"].messages():
        world.feed_once(message)
    page = ValuePage(run_id="r", group="g", task="k", chunk=0, fence=7, index=0, key="k", page=0)

    turn = decide(world.rules, world.partition, DeliveredMessage(page, (b"x",), 99, 0.0))

    assert [effect for effect in turn.effects if isinstance(effect, StorePut)] == []
    assert world.partition.dropped == {"message of an earlier delivery": 1}


# --- the sweep -----------------------------------------------------------------------------------

PLACE = ChunkDelivery("r", "s", "g", "t", 0, 0)


def test_an_unclaimed_chunk_is_offered_again_after_waits_that_grow() -> None:
    ledger = ClaimMonitor()
    ledger.adopt(PLACE, 0.0)
    now, offers = 0.0, []
    while now < 300:
        if ledger.judge({PLACE: None}, {}, now).offer_again:
            ledger.offered(PLACE, now)
            offers.append(now)
        now += 0.5
    waits = [later - earlier for earlier, later in itertools.pairwise(offers)]

    assert offers[0] == 0.0
    assert waits[0] == pytest.approx(FIRST_WAIT, abs=0.5)
    assert waits == sorted(waits)
    assert waits[-1] == MAX_WAIT


def test_chunks_that_a_former_owner_may_have_offered_are_offered_at_once() -> None:
    ledger = ClaimMonitor()
    ledger.adopt(PLACE, 0.0)

    assert ledger.judge({PLACE: None}, {}, 0.0).offer_again == [PLACE]


def test_a_chunk_whose_turn_has_not_offered_it_yet_is_left_alone() -> None:
    ledger = ClaimMonitor()

    assert ledger.judge({PLACE: None}, {}, 0.0).offer_again == [], "its outcomes may not be in the store yet"


def test_a_chunk_of_the_worker_in_this_process_needs_no_claim_until_it_is_dropped() -> None:
    ledger = ClaimMonitor()
    ledger.offered(PLACE, 0.0)

    for now in range(10):
        assert ledger.judge({PLACE: None}, {}, float(now), {PLACE}).offer_again == []
    assert ledger.judge({PLACE: None}, {}, 10.0).offer_again == [PLACE]


def test_a_chunk_that_is_offered_during_a_check_is_remembered() -> None:
    ledger = ClaimMonitor()
    ledger.offered(PLACE, 1.5)
    ledger.judge({}, {}, 1.0)

    assert ledger.judge({PLACE: None}, {}, 1.5 + FIRST_WAIT).offer_again == [PLACE]


def test_a_partition_that_is_taken_over_during_a_check_is_remembered() -> None:
    """Regression: chunks of a partition that was taken over during the check of another were never offered."""
    ledger = ClaimMonitor()
    ledger.adopt(PLACE, 1.5)
    ledger.judge({}, {}, 1.0)

    assert ledger.judge({PLACE: None}, {}, 2.0).offer_again == [PLACE]


def test_a_worker_is_gone_when_it_was_missing_twice_in_a_row() -> None:
    ledger = ClaimMonitor()
    claims = {PLACE: "w"}

    assert ledger.judge(claims, {"w": False}, 0.0).lost == []
    assert ledger.judge(claims, {"w": True}, 1.0).lost == []
    assert ledger.judge(claims, {"w": False}, 2.0).lost == []
    assert ledger.judge(claims, {"w": False}, 3.0).lost == [(PLACE, "w")]


def test_no_worker_is_gone_because_the_store_was_unavailable() -> None:
    ledger = ClaimMonitor()
    ledger.judge({PLACE: "w"}, {"w": False}, 0.0)
    ledger.store_was_away(1.0)

    assert ledger.judge({PLACE: None}, {"w": False}, SETTLE_SECONDS).offer_again == []
    assert ledger.judge({PLACE: "w"}, {"w": False}, 1.5 + SETTLE_SECONDS).lost == []
    assert ledger.judge({PLACE: "w"}, {"w": False}, 2.5 + SETTLE_SECONDS).lost == [(PLACE, "w")]
