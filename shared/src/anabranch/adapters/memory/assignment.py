"""Assigns partitions to members: sticky, and balanced within each topic. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from anabranch.adapters.lifecycle import TopicPartition


def balance(
    members: Mapping[str, Collection[str]],
    partitions: Iterable[TopicPartition],
    current: Mapping[TopicPartition, str],
) -> dict[TopicPartition, str]:
    """Give each partition to a member whose topics include it.

    `members` maps a member's name to its topics, in order of joining. A member keeps its partitions in `current`
    unless it has at least two more of their topic than another member that could take one. Partitions of topics
    without a member are left out.
    """
    by_topic: dict[str, list[TopicPartition]] = {}
    for partition in sorted(partitions):
        by_topic.setdefault(partition[0], []).append(partition)
    totals: Counter[str] = Counter()
    found: dict[TopicPartition, str] = {}
    for topic, wanted in by_topic.items():
        eligible = [member for member, topics in members.items() if topic in topics]
        for member, owned in _balanced(eligible, wanted, current, totals).items():
            totals[member] += len(owned)
            found |= dict.fromkeys(owned, member)
    return found


def _balanced(
    members: Sequence[str],
    partitions: Sequence[TopicPartition],
    current: Mapping[TopicPartition, str],
    totals: Mapping[str, int],
) -> dict[str, list[TopicPartition]]:
    """The partitions of one topic by member. `totals` is what each member has of the topics before."""
    held: dict[str, list[TopicPartition]] = {member: [] for member in members}
    if not held:
        return held

    def load(member: str) -> tuple[int, int]:
        return len(held[member]), totals[member]

    unassigned: list[TopicPartition] = []
    for partition in partitions:
        held.get(current.get(partition, ""), unassigned).append(partition)
    for partition in unassigned:
        held[min(held, key=load)].append(partition)
    while len(held[giver := max(held, key=load)]) - len(held[taker := min(held, key=load)]) > 1:
        held[taker].append(held[giver].pop())
    return held
