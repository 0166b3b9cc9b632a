"""Chooses the reason for a missing fact from the state of consumer groups, claims and liveness keys. Pure.

The replay of the log says what is missing. The evidence in this module says whether a process is there to produce
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from anabranch.core.reasons import Fact, Missing
from anabranch.ports import Standing

STALE_SECONDS = 10.0
"""Seconds beyond the loss window after which an uncommitted record means a slow owner. (Commits trail by the loss
window even if the owner is fast.)"""


@dataclass(frozen=True, slots=True)
class RequiredPartition:
    """A partition whose owner the run needs to make progress, with the state of the consumer group that reads
    it."""

    topic: str
    partition: int
    standing: Standing
    oldest_waiting: float | None = None
    """Time of the first uncommitted record; None if every record is committed."""

    def unhealthy_reason(self, now: float, loss_window: float) -> Missing | None:
        """An entry if the partition has no owner, or if its owner is slow; else None."""
        base = Missing(
            Fact.NO_OWNER,
            topic=self.topic,
            partition=self.partition,
            offset=self.standing.position,
            lag=self.standing.lag,
            since=self.oldest_waiting,
        )
        if self.standing.member is None:
            return base
        waiting = self.oldest_waiting
        if waiting is not None and now - waiting > loss_window + STALE_SECONDS:
            return replace(base, fact=Fact.BEHIND_LAG)
        return None


@dataclass(frozen=True, slots=True)
class WaitingOffer:
    """An offer of a chunk on `tasks` that no worker has read yet."""

    partition: int
    offset: int
    lag: int
    topic: str | None = None
    ahead: str | None = None
    """What is before it, in words; None if nothing is."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """State of the workers.

    Attributes:
        holders: worker of each claim, by the claim's key.
        alive: whether the liveness key of a worker is present.
    """

    groups: RequiredPartition
    tasks_topic: str
    holders: Mapping[str, str] = field(default_factory=dict)
    alive: Mapping[str, bool] = field(default_factory=dict)
    waiting_offers: Mapping[tuple[str, str, int, int], WaitingOffer] = field(default_factory=dict)
    """By group, task, chunk and fence."""

    def with_reason(self, missing: Missing, claim: str, chunk: tuple[int, int], *, bounced: bool) -> Missing:
        """The entry of an offered chunk with the reason why its members have not ended.

        Args:
            missing: its `detail` names the missing agent; it is dropped if the reason is another one.
            claim: key of the chunk's claim. `chunk`: number and fence. `bounced`: workers returned the chunk
                because they have not loaded the agent.
        """
        if missing.fact is Fact.NO_ROOM:
            return missing
        lack, missing = missing.detail, replace(missing, detail=None)
        # The strongest evidence first: a claim proves that a worker has read the offer, whatever the groups say.
        holder = self.holders.get(claim)
        if holder is not None:
            return replace(missing, fact=Fact.CLAIMED, worker=holder, alive=self.alive.get(holder, False))
        offer = self.waiting_offers.get((missing.group or "", missing.task or "", *chunk))
        if offer is not None:
            return replace(
                missing,
                fact=Fact.BEHIND_LAG,
                topic=offer.topic or self.tasks_topic,
                partition=offer.partition,
                offset=offer.offset,
                lag=offer.lag,
                detail=offer.ahead,
            )
        if self.groups.standing.member is None:
            return replace(missing, fact=Fact.NO_OWNER, lag=self.groups.standing.lag)
        return replace(missing, fact=Fact.NO_AGENT, detail=lack) if bounced else missing
