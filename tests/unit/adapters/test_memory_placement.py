"""The partitioner and the assignment of partitions to members."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.adapters.memory.assignment import balance
from anabranch.adapters.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("data", "java"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_the_java_client(data: bytes, java: int) -> None:
    assert murmur2(data) == java % 2**32


def test_a_key_is_in_one_of_the_partitions() -> None:
    assert {partition_of(f"run-{i}", 7) for i in range(200)} == set(range(7))


members = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)
partitions = st.integers(0, 40).map(lambda n: [("t", i) for i in range(n)])


@given(members, members, partitions)
def test_balance_is_even_and_moves_no_more_than_it_must(
    before: list[str], after: list[str], partitions: list[tuple[str, int]]
) -> None:
    old = balance({member: ["t"] for member in before}, partitions, {})
    new = balance({member: ["t"] for member in after}, partitions, old)

    counts = [list(new.values()).count(member) for member in after]
    assert set(new) == set(partitions)
    assert max(counts) - min(counts) <= 1
    ceiling = -(-len(partitions) // len(after))
    for member in set(before) & set(after):
        had = {partition for partition, owner in old.items() if owner == member}
        kept = {partition for partition in had if new[partition] == member}
        assert len(kept) >= min(len(had), ceiling - 1)


def test_a_member_gets_only_topics_it_asked_for() -> None:
    partitions = [("a", 0), ("a", 1), ("b", 0), ("c", 0)]

    assigned = balance({"one": ["a"], "two": ["a", "b"]}, partitions, {})

    assert assigned[("b", 0)] == "two"
    assert set(assigned.values()) == {"one", "two"}
    assert ("c", 0) not in assigned
