"""What the parts of one owner share. Data, no decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from anabranch.runtime.ownership.handler import PartitionHandler
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.loss_detector import LossDetector
from anabranch.runtime.ownership.membership import GroupMembership
from anabranch.runtime.ownership.owned_partition import OwnedPartition
from anabranch.runtime.ownership.owner_metrics import OwnerMetrics
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.topic_recreation import RecreationDetector

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class OwnerContext(Generic[S]):
    """The collaborators of one owner, and the partitions that it owns now."""

    handler: PartitionHandler[S]
    resources: Resources
    clock: LogClock
    """The log's time: deadlines are compared with the timestamps of records."""
    owned: dict[int, OwnedPartition[S]]
    membership: GroupMembership
    loss_detector: LossDetector
    recreation: RecreationDetector
    metrics: OwnerMetrics

    def is_current(self, owned: OwnedPartition[S]) -> bool:
        """True if this assignment of the partition is the present one: it may be lost, and assigned again, during
        any await."""
        return self.owned.get(owned.number) is owned
