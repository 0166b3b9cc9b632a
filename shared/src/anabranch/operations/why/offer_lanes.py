"""Where the offers of a run wait: in the lanes of its pools, behind offers of which levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from anabranch.core.errors import Misconfigured
from anabranch.core.lanes import DEFAULT_POOL, PRIORITIES, Lane, Priority, lanes_of, number_of
from anabranch.core.reasons import Fact, Missing
from anabranch.operations.why.evidence import WaitingOffer
from anabranch.operations.why.observations import OfferPlace, Sources, waiting_offers
from anabranch.ports import Standing

if TYPE_CHECKING:
    from anabranch_taskgroup.session.state import Run
    from anabranch_taskgroup.session.steps.kind import Wait


@dataclass(frozen=True, slots=True)
class LaneStanding:
    """A lane and how far its workers have read its topic, by partition."""

    lane: Lane
    topic: str
    standings: Mapping[int, Standing]

    @property
    def lag(self) -> int:
        """Offers that no worker has taken."""
        return sum(standing.lag for standing in self.standings.values())


class OfferLanes:
    """The lanes of the pools that an open run has offers in, and its offers there.

    Args:
        waiting: by pool, the number of offers of each level that no worker has taken.
    """

    def __init__(
        self,
        pools: Mapping[str, Sequence[LaneStanding]],
        waiting: Mapping[str, Mapping[Priority, int]],
        offers: Mapping[OfferPlace, WaitingOffer],
    ) -> None:
        self._pools = pools
        self._waiting = waiting
        self.offers = offers

    @classmethod
    async def of_run(cls, sources: Sources, run_id: str, pools: Sequence[str]) -> OfferLanes:
        """Look for the offers of a run in the topics of these pools.

        Raises:
            ServerUnavailable: the log does not answer.
        """
        found = {pool: await _lanes(sources, pool) for pool in pools}
        waiting: dict[str, Mapping[Priority, int]] = {}
        offers: dict[OfferPlace, WaitingOffer] = {}
        for pool, lanes in found.items():
            read = [await waiting_offers(sources, run_id, each.lane, each.standings) for each in lanes]
            levels: Counter[Priority] = sum((each.levels for each in read), Counter())
            waiting[pool] = levels
            for each in read:
                for place, (offer, level, before) in each.of_run.items():
                    offers[place] = replace(offer, ahead=ahead_of(levels, level, before))
        return cls(found, waiting, offers)

    def detail_of_held(self, pool: str, priority: Priority) -> str | None:
        """What is before a chunk that its owner holds back, whose offer is not on the log; None if nothing is."""
        levels = self._waiting.get(pool, {})
        return ahead_of(levels, priority, levels.get(priority, 0))

    def without_workers(self) -> list[Missing]:
        """An entry for each pool that no worker reads."""
        return [_no_worker(pool, lanes) for pool, lanes in self._pools.items() if not _is_read(lanes)]


async def _lanes(sources: Sources, pool: str) -> Sequence[LaneStanding]:
    """The lanes of a pool that have a topic."""
    found = []
    for lane in lanes_of(pool):
        topic = sources.names.tasks(lane)
        try:
            standings = await sources.log.group_standing(sources.names.tasks_group(lane), topic, members=True)
        except Misconfigured:
            continue
        found.append(LaneStanding(lane, topic, standings))
    return found


def _is_read(lanes: Sequence[LaneStanding]) -> bool:
    return any(standing.member is not None for each in lanes for standing in each.standings.values())


def _no_worker(pool: str, lanes: Sequence[LaneStanding]) -> Missing:
    whose = "" if pool == DEFAULT_POOL else f" of the pool {pool!r}"
    remedy = "" if pool == DEFAULT_POOL else f": start one with anabranch taskgroup --pool {pool}"
    usual = next((each for each in lanes if each.lane == Lane(pool)), None)
    detail = f"no worker{whose} reads offers{remedy}"
    lag = sum(each.lag for each in lanes)
    return Missing(Fact.NO_OWNER, topic=usual.topic if usual else None, lag=lag, detail=detail)


def ahead_of(waiting: Mapping[Priority, int], priority: Priority, same: int) -> str | None:
    """What is ahead of an offer, in words: `behind 312 offers of level high, 4 of level normal`.

    Args:
        waiting: offers by level.
        same: the offers of its own level that are before it.
    """
    higher = [level for level in reversed(PRIORITIES) if number_of(level) > number_of(priority)]
    counts = [(waiting.get(level, 0), level) for level in higher] + [(same, priority)]
    parts = [
        f"{count:,} offer{'' if count == 1 else 's'} of level {level}" for count, level in counts if count > 0
    ]
    return f"behind {', '.join(parts)}" if parts else None


def pools_of(run: Run, waits: Sequence[Wait]) -> list[str]:
    """The pools of the tasks whose chunks wait, each once."""
    from anabranch_taskgroup.session.levels import pool_of

    tasks = [run.task(wait.missing.group or "", wait.missing.task or "") for wait in waits if wait.claim]
    return list(dict.fromkeys(pool_of(run, task) for task in tasks if task is not None))


def detail_of_wait(run: Run, lanes: OfferLanes, missing: Missing) -> Missing:
    """The entry of a chunk that no worker has claimed, with what is before it if its owner holds it back."""
    from anabranch_taskgroup.session.levels import pool_of, priority_at

    task = run.task(missing.group or "", missing.task or "")
    if missing.fact is not Fact.OFFERED or missing.detail is not None or task is None:
        return missing
    priority = priority_at(run, task, missing.since or 0.0)
    return replace(missing, detail=lanes.detail_of_held(pool_of(run, task), priority))
