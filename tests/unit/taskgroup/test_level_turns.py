"""Which offer of a worker is next: by level, without starvation, then fair to keys and runs."""

from __future__ import annotations

from collections import Counter
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.fair_queue import FairQueue
from anabranch.core.lanes import DEFAULT_LANE, PRIORITIES, Lane, Priority, lanes_of, raised
from anabranch.core.names import Names
from anabranch.core.wire.messages import Offer
from anabranch.ports import Incoming
from anabranch_taskgroup.worker.level_turns import LevelTurns
from anabranch_taskgroup.worker.offer_queue import OfferQueue, QueuedOffer
from anabranch_taskgroup.worker.offered import Offered

HOUR, DAY = 3_600.0, 86_400.0
NUMBERS = count()


def test_each_lane_has_a_topic_of_its_own() -> None:
    names = Names("p.")

    assert names.tasks() == names.tasks(DEFAULT_LANE) == "p.tasks"
    assert names.tasks(Lane("gpu")) == "p.tasks.gpu"
    assert names.tasks(Lane(priority="urgent")) == "p.tasks.default.urgent"
    assert names.topics_of_levels("gpu") == (
        "p.tasks.gpu",
        "p.tasks.gpu.critical",
        "p.tasks.gpu.urgent",
        "p.tasks.gpu.high",
        "p.tasks.gpu.low",
    )
    assert [lane.priority for lane in lanes_of("gpu")] == [*reversed(PRIORITIES)]


def test_a_deadline_raises_by_one_level_within_a_day_and_by_two_within_an_hour_never_above_urgent() -> None:
    assert [raised(each, None) for each in PRIORITIES] == list(PRIORITIES)
    assert [raised(each, DAY + 1) for each in PRIORITIES] == list(PRIORITIES)
    assert [raised(each, DAY) for each in PRIORITIES] == ["normal", "high", "urgent", "urgent", "critical"]
    assert [raised(each, HOUR) for each in PRIORITIES] == ["high", "urgent", "urgent", "urgent", "critical"]
    assert raised("low", -5.0) == "high"


def turns_of(waiting: list[Priority], number: int, turns: LevelTurns | None = None) -> list[Priority]:
    turns = turns or LevelTurns()
    found = []
    for _ in range(number):
        found.append(priority := turns.following(waiting))
        turns.begun(priority, waiting)
    return found


def test_the_highest_level_is_next_and_of_sixteen_chunks_one_is_of_the_lowest() -> None:
    assert turns_of(["low", "critical"], 32) == (["critical"] * 15 + ["low"]) * 2
    assert turns_of(["normal"], 3) == ["normal"] * 3


def test_a_level_that_comes_later_waits_for_no_chunk_of_a_lower_one() -> None:
    turns = LevelTurns()
    turns_of(["low"], 100, turns)

    assert turns.following(["low", "critical"]) == "critical"


@given(st.lists(st.sets(st.sampled_from(PRIORITIES), min_size=1), min_size=16, max_size=80))
def test_of_sixteen_chunks_at_least_one_is_of_the_lowest_level_that_has_any(rounds: list[set[Priority]]) -> None:
    """Levels come and go. One that is the lowest for sixteen chunks has one of them."""
    turns = LevelTurns()
    begun = [turns_of(sorted(waiting), 1, turns)[0] for waiting in rounds]

    for end in range(16, len(rounds) + 1):
        lowest = [min(waiting, key=PRIORITIES.index) for waiting in rounds[end - 16 : end]]
        if len(set(lowest)) == 1:
            assert lowest[0] in begun[end - 16 : end]


def test_a_turn_whose_chunk_did_not_begin_is_repeated() -> None:
    turns = LevelTurns()
    waiting: list[Priority] = ["low", "high", "critical"]
    assert turns_of(waiting, 16, turns)[-1] == "low"

    turns.repeat("low", waiting)
    assert turns_of(waiting, 2, turns) == ["low", "high"]


def test_no_level_between_starves() -> None:
    found = Counter(turns_of(list(PRIORITIES), 160))

    assert min(found.values()) >= 8
    assert found["critical"] >= 100


def queued(run: str, *, key: str = "k", priority: Priority = "normal", members: int = 1) -> QueuedOffer:
    offer = Offer(
        run_id=run,
        session_id="s",
        group="g",
        task="t",
        agent="a",
        chunk=next(NUMBERS),
        fence=0,
        spans=((0, members),),
        deadline=1.0,
        claim_ttl=1.0,
        priority=priority,
        fairness_key=key,
    )
    record = Incoming("p.tasks", 0, 0, None, b"", {}, 0.0)
    return QueuedOffer(DEFAULT_LANE, record, Offered(offer, (b"", b"")))


def popped(queue: OfferQueue, number: int) -> list[str]:
    found = [queue.pop().offered for _ in range(number)]
    return [each.offer.run_id for each in found if each is not None]


def test_a_single_task_of_another_key_is_behind_at_most_one_chunk() -> None:
    queue = OfferQueue()
    for _ in range(1_000):
        queue.push(queued("wide", key="a", members=500))
    popped(queue, 10)
    queue.push(queued("small", key="b"))

    assert "small" in popped(queue, 2)


def test_keys_share_by_members_and_not_by_chunks() -> None:
    queue = OfferQueue()
    for _ in range(100):
        queue.push(queued("large", key="a", members=10))
        queue.push(queued("small", key="b", members=1))

    assert 9 <= Counter(popped(queue, 50))["small"] / Counter(popped(queue, 50))["large"] <= 12


def test_runs_of_one_key_share_its_part() -> None:
    queue = OfferQueue()
    for _ in range(100):
        queue.push(queued("wide", members=500))
    popped(queue, 5)
    queue.push(queued("later"))

    assert "later" in popped(queue, 2)


def test_offers_of_one_run_keep_their_order() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(20):
        queue.push(("k", "r"), number, 3)

    assert [queue.pop().item for _ in range(20)] == list(range(20))


def test_a_chunk_of_this_process_goes_before_others_only_in_its_turn() -> None:
    queue = OfferQueue()
    assert queue.may_overtake("low", ("k", "r"), 1)

    queue.push(queued("urgent", priority="urgent"))
    assert not queue.may_overtake("normal", ("k", "r"), 1)
    assert queue.may_overtake("critical", ("k", "r"), 1)

    popped(queue, 1)
    queue.push(queued("wide", key="a", members=9))
    queue.push(queued("wide", key="a", members=9))
    popped(queue, 1)
    assert queue.may_overtake("normal", ("b", "r"), 20)
    assert not queue.may_overtake("normal", ("b", "r"), 1)


def test_no_local_chunk_passes_the_lowest_level_sixteen_times() -> None:
    queue = OfferQueue()
    queue.push(queued("low", priority="low"))

    assert [queue.may_overtake("normal", ("k", "r"), 1) for _ in range(17)] == [True] * 15 + [False] * 2


def test_revoked_offers_leave_the_queue() -> None:
    queue = OfferQueue()
    for number in range(6):
        queue.push(queued(f"r{number % 3}", key=f"k{number % 2}"))
    queue.retain(lambda each: each.offered is not None and each.offered.offer.run_id != "r1")

    assert len(queue) == 4
    assert sorted(popped(queue, 4)) == ["r0", "r0", "r2", "r2"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(1, 50)), max_size=60))
def test_each_item_is_served_once_and_fairly(items: list[tuple[str, str, int]]) -> None:
    queue: FairQueue[tuple[str, str, int]] = FairQueue()
    for item in items:
        queue.push(item[:2], item, item[2])
    served: Counter[str] = Counter()
    found = []
    while queue:
        waiting = {each[0] for each in queue}
        key = queue.pop().item
        found.append(key)
        # No key is ahead of another one that waits by more than one item.
        assert all(served[key[0]] <= served[other] + 50 for other in waiting)
        served[key[0]] += key[2]

    assert sorted(found) == sorted(items)
