"""Finds claims that the log has lost: an owner that waits for such a claim would never have caught up.

An owner replays up to its own claim. A topic that is deleted and created again between the claim and the first
read has no record at the offset of the claim, and nothing comes that would tell.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from anabranch.ports import EventLog

log = logging.getLogger(__name__)


async def has_lost_claim(eventlog: EventLog, group: str, topic: str, claims: Mapping[int, int]) -> bool:
    """Whether the log ends before one of these claims, by partition the offset of each.

    Raises:
        ServerUnavailable: the log cannot be asked.
    """
    if not claims:
        return False
    standings = await eventlog.group_standing(group, topic)
    lost = [number for number, epoch in claims.items() if number in standings and standings[number].end <= epoch]
    for number in lost:
        log.warning("%s/%d no longer has its owner's claim: joining the group again", topic, number)
    return bool(lost)
