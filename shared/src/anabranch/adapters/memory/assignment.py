"""Assigns partitions to members: sticky and balanced. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from anabranch.adapters.lifecycle import TopicPartition


def balance(
    members: Mapping[str, Collection[str]],
    partitions: Iterable[TopicPartition],
    current: Mapping[TopicPartition, str],
) -> dict[TopicPartition, str]:
    """Give each partition to a member whose topics include it.

    `members` maps a member's name to its topics, in order of joining. A member keeps its partitions in `current`
    unless it has at least two more than another member that could take one. Partitions of topics without a member
    are left out.
    """
    held: dict[str, list[TopicPartition]] = {member: [] for member in members}
    unassigned = []
    for partition in sorted(partitions):
        owner = current.get(partition)
        if owner is not None and partition[0] in members.get(owner, ()):
            held[owner].append(partition)
        else:
            unassigned.append(partition)
    for partition in unassigned:
        if taker := _least_loaded(partition, members, held):
            held[taker].append(partition)
    while move := _next_move(members, held):
        partition, giver, taker = move
        held[giver].remove(partition)
        held[taker].append(partition)
    return {partition: member for member, owned in held.items() for partition in owned}


def _least_loaded(
    partition: TopicPartition,
    members: Mapping[str, Collection[str]],
    held: Mapping[str, list[TopicPartition]],
) -> str | None:
    eligible = [member for member, topics in members.items() if partition[0] in topics]
    return min(eligible, key=lambda member: len(held[member]), default=None)


def _next_move(
    members: Mapping[str, Collection[str]], held: Mapping[str, list[TopicPartition]]
) -> tuple[TopicPartition, str, str] | None:
    for giver in sorted(held, key=lambda member: -len(held[member])):
        for partition in reversed(held[giver]):
            taker = _least_loaded(partition, members, held)
            if taker is not None and len(held[giver]) - len(held[taker]) > 1:
                return partition, giver, taker
    return None
