"""A consumer group of the log in memory: members, owners, and committed positions.

A partition has one owner at a time: its next owner gets it only after the present one has released it or was
expelled. The group calls no listener; it wakes members, which read their assignment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from anabranch.adapters.lifecycle import TopicPartition
from anabranch.adapters.memory.assignment import balance
from anabranch.ports import Committed


@dataclass(eq=False)
class GroupMember:
    """A membership in the group. `wake` wakes the member to read its assignment again."""

    name: str
    topics: Sequence[str]
    wake: Callable[[], None]


@dataclass
class ConsumerGroup:
    """The coordinator of one group.

    `owners` has the current owner of each partition, `targets` the assigned one. `generation` counts rebalances.
    """

    name: str
    partitions_of: Callable[[str], Iterable[TopicPartition]]
    generation: int = 0
    committed: dict[TopicPartition, Committed] = field(default_factory=dict)
    owners: dict[TopicPartition, GroupMember] = field(default_factory=dict)
    targets: dict[TopicPartition, GroupMember] = field(default_factory=dict)
    members: dict[str, GroupMember] = field(default_factory=dict)

    def join(self, member: GroupMember) -> None:
        """Add a member and rebalance."""
        self.members[member.name] = member
        self._rebalance()

    def remove(self, member: GroupMember) -> None:
        """Remove a member and its ownership, and rebalance; an unknown member is ignored."""
        if self.members.pop(member.name, None) is None:
            return
        self.owners = {partition: owner for partition, owner in self.owners.items() if owner is not member}
        self._rebalance()

    def is_member(self, member: GroupMember) -> bool:
        """True if the member is in the group."""
        return self.members.get(member.name) is member

    def to_release(self, member: GroupMember) -> list[TopicPartition]:
        """Partitions that a member owns and has to release."""
        owned = (partition for partition, owner in self.owners.items() if owner is member)
        return [partition for partition in owned if self.targets.get(partition) is not member]

    def owned_by(self, member: GroupMember) -> list[TopicPartition]:
        """Partitions that a member owns."""
        return [partition for partition, owner in self.owners.items() if owner is member]

    def take(self, member: GroupMember) -> list[TopicPartition]:
        """Make a member the owner of the free partitions that are assigned to it; returns them."""
        free = [
            partition
            for partition, target in self.targets.items()
            if target is member and partition not in self.owners
        ]
        self.owners.update(dict.fromkeys(free, member))
        return free

    def release(self, member: GroupMember, partitions: Iterable[TopicPartition]) -> None:
        """Release partitions of a member, and wake the members that they are assigned to."""
        for partition in partitions:
            if self.owners.get(partition) is member:
                del self.owners[partition]
        self._wake_all()

    def commit(self, member: GroupMember, partition: TopicPartition, position: Committed) -> bool:
        """Store a position; returns False if the member does not own the partition, and nothing is stored."""
        if self.owners.get(partition) is not member:
            return False
        self.committed[partition] = position
        return True

    def forget(self, topic: str) -> None:
        """Remove a deleted topic: its assignments and committed offsets."""
        for positions in (self.committed, self.owners, self.targets):
            for place in [place for place in positions if place[0] == topic]:
                del positions[place]

    def _rebalance(self) -> None:
        topics = sorted({topic for member in self.members.values() for topic in member.topics})
        partitions = [partition for topic in topics for partition in self.partitions_of(topic)]
        current = {partition: owner.name for partition, owner in self.owners.items()}
        wanted = balance({name: member.topics for name, member in self.members.items()}, partitions, current)
        self.targets = {partition: self.members[name] for partition, name in wanted.items()}
        self.generation += 1
        self._wake_all()

    def _wake_all(self) -> None:
        for member in list(self.members.values()):
            member.wake()
