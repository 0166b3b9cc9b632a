"""From what the log and the store say to one reason for each missing fact. Pure.

What was decided is a fold over the log. Whether somebody is there to act on it is seen from the consumer groups,
the claims and the liveness keys, which are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from anabranch.core.reasons import Fact, Missing
from anabranch.ports import Standing

STALE_SECONDS = 10.0
"""A record that lies uncommitted for so much longer than the loss window waits for a slow owner, not for time."""


@dataclass(frozen=True, slots=True)
class RequiredPartition:
    """A partition that somebody has to own for the run to go on, and the group that reads it."""

    topic: str
    partition: int
    standing: Standing
    oldest_waiting: float | None = None
    """When the first record was written that is not committed; None where there is none."""

    def unhealthy_reason(self, now: float, loss_window: float) -> Missing | None:
        """That nobody owns it, or that its owner does not keep up; None where neither can be said."""
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
    """An offer of a chunk that stands on the log behind what the workers have taken."""

    partition: int
    offset: int
    lag: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the workers: who holds a claim, who lives, which offers nobody has read."""

    groups: RequiredPartition
    tasks_topic: str
    holders: Mapping[str, str] = field(default_factory=dict)
    alive: Mapping[str, bool] = field(default_factory=dict)
    waiting_offers: Mapping[tuple[str, str, int, int], WaitingOffer] = field(default_factory=dict)
    """By group, task, chunk and fence."""

    def judge(self, missing: Missing, claim: str, chunk: tuple[int, int], *, bounced: bool) -> Missing:
        """Why the members of an offered chunk have not ended. `missing.detail` is used if no worker has the
        agent."""
        lack, missing = missing.detail, replace(missing, detail=None)
        holder = self.holders.get(claim)
        if holder is not None:
            return replace(missing, fact=Fact.CLAIMED, worker=holder, alive=self.alive.get(holder, False))
        offer = self.waiting_offers.get((missing.group or "", missing.task or "", *chunk))
        if offer is not None:
            return replace(
                missing,
                fact=Fact.BEHIND_LAG,
                topic=self.tasks_topic,
                partition=offer.partition,
                offset=offer.offset,
                lag=offer.lag,
            )
        if self.groups.standing.member is None:
            return replace(missing, fact=Fact.NO_OWNER, lag=self.groups.standing.lag)
        return replace(missing, fact=Fact.NO_AGENT, detail=lack) if bounced else missing
