"""Poison records: owners crash on one, one after another, until an owner dead-letters it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from anabranch.ports import Incoming, Write
from anabranch.runtime.ownership.poison_records import PoisonRecordGuard


class Store:
    """A store in a dict, which outlives owners."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    async def put(self, writes: Sequence[Write], fence: object = None) -> None:
        self.values.update((write.key, write.value) for write in writes)


def records(*offsets: int) -> list[Incoming]:
    return [Incoming("t", 0, offset, b"run", b"", (), 0.0) for offset in offsets]


class Died(Exception):
    """The process crashed in the decision: nothing after it happens."""


async def owner(store: Store, batch: Sequence[Incoming], killers: set[int]) -> tuple[list[int], list[int]]:
    """One owner reads its backlog; returns the records that it decided about, and those skipped as poison."""
    guard = PoisonRecordGuard(store, "k")  # type: ignore[arg-type]
    await guard.load()
    decided: list[int] = []
    skipped: list[int] = []
    for part in guard.split(batch):
        if guard.is_poison(part[0]):
            await guard.mark_poison(part[0])
            skipped += [record.offset for record in part]
            continue
        await guard.enter(part)
        if any(record.offset in killers for record in part):
            raise Died
        decided += [record.offset for record in part]
        await guard.leave()
    return decided, skipped


async def deaths_of(
    store: Store, batch: Sequence[Incoming], killers: set[int]
) -> tuple[int, list[int], list[int]]:
    """Start one owner after another until one survives all records; returns the deaths."""
    for deaths in range(50):
        try:
            return (deaths, *await owner(store, batch, killers))
        except Died:
            continue
    raise AssertionError("they die for ever")


@pytest.mark.parametrize(("offsets", "deaths"), [((3,), 3), ((1, 2, 3, 4, 5), 4)])
async def test_a_poison_record_is_dead_lettered_after_three_owners_died_of_it_alone(
    offsets: Sequence[int], deaths: int
) -> None:
    """An earlier owner died of the batch, if the record was in one; owners without a backlog leave no note."""
    found = await deaths_of(Store(), records(*offsets), {3})

    assert found == (deaths, [offset for offset in offsets if offset != 3], [3])


async def test_a_dead_lettered_record_is_skipped_by_every_later_owner() -> None:
    store = Store()
    await deaths_of(store, records(1, 2, 3), {2})

    assert await owner(store, records(1, 2, 3, 4), {2}) == ([1, 3, 4], [2])
    assert await owner(store, records(2, 3, 4), {2}) == ([3, 4], [2])


async def test_an_unrelated_death_dead_letters_nothing() -> None:
    store = Store()
    for _ in range(5):
        with pytest.raises(Died):
            await owner(store, records(1, 2, 3), {2})
        assert await owner(store, records(1, 2, 3), set()) == ([1, 2, 3], [])


async def test_two_poison_records_are_dead_lettered_one_after_the_other() -> None:
    deaths, decided, skipped = await deaths_of(Store(), records(1, 2, 3, 4), {2, 4})

    assert (decided, skipped) == ([1, 3], [2, 4])
    assert deaths <= 8


async def test_parts_are_all_records_in_order() -> None:
    store = Store()
    with pytest.raises(Died):
        await owner(store, records(5, 6, 7), {6})
    guard = PoisonRecordGuard(store, "k")  # type: ignore[arg-type]
    await guard.load()

    parts = [[record.offset for record in part] for part in guard.split(records(1, 2, 5, 6, 7, 8, 9))]

    assert parts == [[1, 2], [5], [6], [7], [8, 9]]


def test_claims_have_no_key_and_nothing_is_noted_about_them() -> None:
    claim = Incoming("t", 0, 1, None, b"", (), 0.0)

    assert PoisonRecordGuard.is_harmless([claim, claim])
    assert not PoisonRecordGuard.is_harmless([claim, *records(2)])
