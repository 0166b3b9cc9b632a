"""The state store, over every adapter."""

from __future__ import annotations

import asyncio

import pytest

from anabranch.core.errors import Fenced
from anabranch.ports import Fence, History, HistoryEntry, StateStore, Write
from conformance.clients import NewStore


async def until_absent(store: StateStore, key: str) -> None:
    async with asyncio.timeout(10):
        while (await store.get([key]))[0] is not None:
            await asyncio.sleep(0.01)


async def test_values_come_back_in_the_order_of_the_keys(store: StateStore, prefix: str) -> None:
    await store.put([Write(f"{prefix}{{a}}:1", b"one", 60), Write(f"{prefix}{{b}}:2", b"\x00\xff", 60)])

    keys = [f"{prefix}{{b}}:2", f"{prefix}absent", f"{prefix}{{a}}:1"]
    assert list(await store.get(keys)) == [b"\x00\xff", None, b"one"]


async def test_no_keys_need_no_server(store: StateStore) -> None:
    assert list(await store.get([])) == []
    assert await store.delete([]) == 0
    assert list(await store.claim([], "me", 60)) == []
    await store.put([])
    await store.put_all([])


async def test_a_later_value_replaces_an_earlier_one(store: StateStore, prefix: str) -> None:
    await store.put([Write(f"{prefix}k", b"1", 60)])
    await store.put([Write(f"{prefix}k", b"2", 60)])

    assert await store.get([f"{prefix}k"]) == [b"2"]


async def test_a_value_expires(store: StateStore, prefix: str) -> None:
    await store.put([Write(f"{prefix}short", b"1", 0.05), Write(f"{prefix}long", b"1", 60)])

    await until_absent(store, f"{prefix}short")
    assert await store.get([f"{prefix}long"]) == [b"1"]


async def test_expire_changes_the_time_to_live_of_what_is_there(store: StateStore, prefix: str) -> None:
    await store.put([Write(f"{prefix}{{a}}:1", b"1", 60), Write(f"{prefix}{{b}}:2", b"2", 60)])

    await store.expire([f"{prefix}{{a}}:1", f"{prefix}{{c}}:absent"], 0.05)

    await until_absent(store, f"{prefix}{{a}}:1")
    assert list(await store.get([f"{prefix}{{b}}:2", f"{prefix}{{c}}:absent"])) == [b"2", None]


async def test_a_fence_refuses_an_older_epoch_and_writes_nothing(store: StateStore, prefix: str) -> None:
    fence, key = f"{prefix}{{s}}:fence", f"{prefix}{{s}}:v"
    await store.put([Write(key, b"new", 60)], Fence(fence, 7, 60))

    with pytest.raises(Fenced) as refused:
        await store.put([Write(key, b"old", 60), Write(f"{key}2", b"old", 60)], Fence(fence, 6, 60))

    assert (refused.value.key, refused.value.epoch, refused.value.current) == (fence, 6, 7)
    assert list(await store.get([key, f"{key}2"])) == [b"new", None]


async def test_a_fence_lets_the_same_and_a_newer_epoch_write(store: StateStore, prefix: str) -> None:
    fence, key = f"{prefix}{{s}}:fence", f"{prefix}{{s}}:v"
    for epoch in (3, 3, 2**53 + 2):
        await store.put([Write(key, b"%d" % epoch, 60)], Fence(fence, epoch, 60))

    with pytest.raises(Fenced):
        await store.put([], Fence(fence, 2**53 + 1, 60))
    assert await store.get([key]) == [b"%d" % (2**53 + 2)]


async def test_a_fence_lapses_with_its_time_to_live(store: StateStore, prefix: str) -> None:
    fence = f"{prefix}{{s}}:fence"
    await store.put([], Fence(fence, 9, 0.05))

    await until_absent(store, fence)
    await store.put([Write(f"{prefix}{{s}}:v", b"1", 60)], Fence(fence, 1, 60))

    assert await store.get([f"{prefix}{{s}}:v"]) == [b"1"]


async def test_put_all_makes_each_put_a_step_of_its_own(store: StateStore, prefix: str) -> None:
    mine, theirs = f"{prefix}{{mine}}", f"{prefix}{{theirs}}"
    await store.put([Write(f"{theirs}:v", b"new", 60)], Fence(f"{theirs}:fence", 9, 60))

    with pytest.raises(Fenced) as refused:
        await store.put_all(
            [
                ([Write(f"{theirs}:v", b"old", 60)], Fence(f"{theirs}:fence", 8, 60)),
                ([Write(f"{mine}:v", b"1", 60), entry(f"{mine}:h", 0)], Fence(f"{mine}:fence", 8, 60)),
                ([Write(f"{mine}:w", b"2", 60), entry(f"{mine}:i", 0)], None),
            ]
        )

    assert (refused.value.epoch, refused.value.current) == (8, 9)
    assert list(await store.get([f"{theirs}:v", f"{mine}:v", f"{mine}:w"])) == [b"new", b"1", b"2"]
    assert await store.history(f"{mine}:h") == await store.history(f"{mine}:i") == History(0, [b"same"])


async def test_put_new_lets_the_first_win(new_store: NewStore, prefix: str) -> None:
    stores = [await new_store() for _ in range(2)]
    writes = [Write(f"{prefix}outcome", b"%d" % i, 60) for i in range(20)]

    answers = await asyncio.gather(*(stores[i % 2].put_new(write) for i, write in enumerate(writes)))

    winners = [i for i, answer in enumerate(answers) if answer is None]
    assert len(winners) == 1
    assert {answer for answer in answers if answer is not None} == {b"%d" % winners[0]}
    assert await stores[0].get([f"{prefix}outcome"]) == [b"%d" % winners[0]]


async def test_put_new_may_store_again_what_has_expired(store: StateStore, prefix: str) -> None:
    assert await store.put_new(Write(f"{prefix}k", b"1", 0.05)) is None
    await until_absent(store, f"{prefix}k")

    assert await store.put_new(Write(f"{prefix}k", b"2", 60)) is None


async def test_a_claim_has_one_holder(new_store: NewStore, prefix: str) -> None:
    stores = {f"worker-{i}": await new_store() for i in range(3)}
    keys = [f"{prefix}{{g{i}}}:chunk" for i in range(10)]

    answers = await asyncio.gather(*(store.claim(keys, owner, 60) for owner, store in stores.items()))

    assert list(answers[0]) == list(answers[1]) == list(answers[2])
    assert set(answers[0]) <= set(stores)


async def test_a_holder_may_claim_again_and_another_may_not(store: StateStore, prefix: str) -> None:
    key = f"{prefix}chunk"
    assert await store.claim([key], "a", 0.05) == ["a"]
    assert await store.claim([key], "a", 60) == ["a"]
    await until_absent(store, await _short_lived(store, prefix))

    assert await store.claim([key, f"{key}2"], "b", 60) == ["a", "b"]


async def _short_lived(store: StateStore, prefix: str) -> str:
    """A key that is gone when a claim of 0.05 s that was not renewed would be."""
    await store.put([Write(f"{prefix}short", b"", 0.06)])
    return f"{prefix}short"


async def test_a_claim_lapses(store: StateStore, prefix: str) -> None:
    assert await store.claim([f"{prefix}chunk"], "a", 0.05) == ["a"]
    await until_absent(store, f"{prefix}chunk")

    assert await store.claim([f"{prefix}chunk"], "b", 60) == ["b"]


async def test_only_the_holder_releases(store: StateStore, prefix: str) -> None:
    keys = [f"{prefix}mine", f"{prefix}theirs"]
    await store.claim(keys[:1], "me", 60)
    await store.claim(keys[1:], "them", 60)

    await store.release([*keys, f"{prefix}absent"], "me")

    assert await store.claim(keys, "third", 60) == ["third", "them"]


async def test_delete_counts_what_existed(store: StateStore, prefix: str) -> None:
    await store.put([Write(f"{prefix}{{{i}}}", b"", 60) for i in range(3)])

    assert await store.delete([f"{prefix}{{{i}}}" for i in range(5)]) == 3
    assert await store.get([f"{prefix}{{0}}"]) == [None]


async def test_an_index_is_read_from_the_highest_score(store: StateStore, prefix: str) -> None:
    index = f"{prefix}runs"
    for member, score in [("a", 1.0), ("b", 3.0), ("c", 2.0), ("tie", 2.0)]:
        await store.index_add(index, {member: score}, keep=10, ttl=60)

    assert list(await store.index_top(index, 10)) == ["b", "tie", "c", "a"]
    assert list(await store.index_top(index, 2, offset=1)) == ["tie", "c"]
    assert list(await store.index_top(f"{prefix}absent", 2)) == []


async def test_an_index_keeps_the_highest_scores(store: StateStore, prefix: str) -> None:
    index = f"{prefix}runs"
    await asyncio.gather(*(store.index_add(index, {f"r{i}": i}, keep=3, ttl=60) for i in range(8)))
    await store.index_add(index, {"r5": 100, "low": -1}, keep=3, ttl=60)
    await store.index_remove(index, ["r7", "absent"])

    assert list(await store.index_top(index, 10)) == ["r5", "r6"]


async def test_identity_stays_while_the_server_lives(new_store: NewStore) -> None:
    first, second = await new_store(), await new_store()

    assert await first.identity() == await second.identity() != ""


async def test_check_accepts_a_server_that_evicts_nothing(store: StateStore) -> None:
    await store.check()


async def test_many_calls_of_one_turn_each_get_their_own_answer(store: StateStore, prefix: str) -> None:
    fence = Fence(f"{prefix}{{s}}:fence", 5, 60)
    await store.put([], fence)

    answers = await asyncio.gather(
        store.put([Write(f"{prefix}{{s}}:a", b"1", 60)], fence),
        store.put([Write(f"{prefix}{{s}}:b", b"1", 60)], Fence(fence.key, 4, 60)),
        store.get([f"{prefix}{{s}}:a"]),
        store.claim([f"{prefix}c"], "me", 60),
        store.delete([f"{prefix}{{s}}:a"]),
        return_exceptions=True,
    )

    assert answers[0] is None
    assert isinstance(answers[1], Fenced)
    assert answers[2:] == [[b"1"], ["me"], 1]


# --- histories ---------------------------------------------------------------------------------------


def entry(key: str, position: int, value: bytes = b"same", ttl: float = 60.0) -> HistoryEntry:
    return HistoryEntry(key, position, value, ttl, keep=3)


async def test_a_history_is_in_the_order_of_positions_and_counts_what_is_not_shown(
    store: StateStore, prefix: str
) -> None:
    key, fence = f"{prefix}{{s}}:h", Fence(f"{prefix}{{s}}:fence", 1, 60)
    assert await store.history(key) == History(0, [])

    await store.put([entry(key, 2**53 - 1), entry(key, 7, b"\x00:\xff")])
    await store.put([entry(key, 0), Write(f"{prefix}{{s}}:v", b"1", 60)], fence)

    assert await store.history(key) == History(0, [b"same", b"\x00:\xff", b"same"])
    assert await store.history(key, 1) == History(2, [b"same"])
    assert await store.get([f"{prefix}{{s}}:v"]) == [b"1"]


async def test_an_entry_repeated_at_its_position_replaces_and_a_dropped_one_stays_dropped(
    store: StateStore, prefix: str
) -> None:
    key, fence = f"{prefix}{{s}}:h", Fence(f"{prefix}{{s}}:fence", 1, 60)
    for _ in range(2):
        await store.put([entry(key, at, b"%d" % at) for at in range(5)], fence)
        await store.put([entry(key, 5, b"new"), entry(key, 5, b"newer")])
        assert await store.history(key) == History(3, [b"3", b"4", b"newer"])


async def test_a_fence_refuses_entries_too(store: StateStore, prefix: str) -> None:
    key, fence = f"{prefix}{{s}}:h", f"{prefix}{{s}}:fence"
    await store.put([], Fence(fence, 7, 60))

    with pytest.raises(Fenced):
        await store.put([entry(key, 1)], Fence(fence, 6, 60))

    assert await store.history(key) == History(0, [])


async def test_a_history_lives_no_shorter_than_it_was_to(store: StateStore, prefix: str) -> None:
    await store.put([entry(f"{prefix}long", 1), entry(f"{prefix}short", 1, ttl=0.05)])
    await store.put([entry(f"{prefix}long", 2, ttl=0.05)])

    async with asyncio.timeout(10):
        while (await store.history(f"{prefix}short")).values:
            await asyncio.sleep(0.01)
    assert len((await store.history(f"{prefix}long")).values) == 2
    await store.expire([f"{prefix}long"], 0.05)
    async with asyncio.timeout(10):
        while (await store.history(f"{prefix}long")).values:
            await asyncio.sleep(0.01)
