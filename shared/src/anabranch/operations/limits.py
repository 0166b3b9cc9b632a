"""Reads the limits that runs share from the log: who holds them, and who waits for them.

Works while no service is running, because the state of a limit's owner is a fold over the log. Reads only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from anabranch.core.limit_addresses import PREFIX
from anabranch.core.wire.codec import RUNS, Undecodable
from anabranch.core.wire.delivered_message import DeliveredMessage
from anabranch.core.wire.messages import Snapshot
from anabranch.operations.why.observations import Sources, replay_range, replay_start
from anabranch.ports import Incoming
from anabranch.runtime.ownership.replay import committed_generation

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.client import Client
    from anabranch_agency.run.limit_state import LimitAddress, Place

MAX_SHOWN = 100
"""Holders, and waiting ones, that the document of a limit has."""
MAX_NAMED = 3
"""Holders that a text names."""


class LimitReplay:
    """The state of the limits of one partition of `runs`.

    Args:
        addresses: only these; None: all.
    """

    def __init__(self, settings: Settings, generation: int, addresses: Collection[str] | None = None) -> None:
        from anabranch_agency.run.state import PartitionState
        from anabranch_agency.run.turn import DecisionConfig

        self._config = DecisionConfig(settings.names, settings.result_ttl)
        self._state = PartitionState(0, generation)
        self._addresses = addresses
        self._records: dict[str, list[DeliveredMessage]] = {}

    @property
    def limits(self) -> list[LimitAddress]:
        return list(self._state.limits.values())

    def apply(self, record: Incoming) -> None:
        """Apply a record of the partition. Those that are not about a limit, or cannot be decoded, are skipped."""
        address = (record.key or b"").decode("utf-8", "replace")
        if not address.startswith(PREFIX) or (self._addresses is not None and address not in self._addresses):
            return
        try:
            found = RUNS.decode(record.value)
        except Undecodable:
            return
        delivery = DeliveredMessage(found.message, found.segments, record.offset, record.timestamp)
        if isinstance(found.message, Snapshot):
            self._restore(found.message, delivery)
        else:
            self._records.setdefault(address, []).append(delivery)
            self._decide(delivery)

    def _restore(self, snapshot: Snapshot, delivery: DeliveredMessage) -> None:
        """Take the limit from a snapshot: the records before it may be gone. Apply what it does not cover."""
        from anabranch_agency.run.snapshots import decode_run

        state: Any = decode_run(snapshot, delivery.segments)
        self._state.open_address(state, snapshot.upto + 1, delivery.at)
        missed = [each for each in self._records.pop(snapshot.run_id, ()) if each.offset > snapshot.upto]
        self._records[snapshot.run_id] = missed
        for each in missed:
            self._decide(each)

    def _decide(self, delivery: DeliveredMessage) -> None:
        from anabranch_agency.run.actor import decide_delivered

        try:
            decide_delivered(self._config, self._state, delivery)
        except Exception:  # noqa: BLE001 - the owner dead-letters such a record and continues; so does its replay
            return


async def limits_of(
    sources: Sources, settings: Settings, addresses: Collection[str] | None = None
) -> list[LimitAddress]:
    """The limits that are held or waited for: all, or those with these addresses. Raises ServerUnavailable."""
    topic, log = sources.names.runs, sources.log
    wanted = None if addresses is None else {await log.partition_for(topic, each) for each in addresses}
    found: list[LimitAddress] = []
    standings = await log.group_standing(sources.names.agency_runs, topic)
    for partition, standing in standings.items():
        if wanted is None or partition in wanted:
            replay = LimitReplay(settings, committed_generation(standing.committed), addresses)
            await replay_range(log, topic, partition, replay_start(standing), standing.end, replay)
            found += replay.limits
    return sorted(found, key=lambda each: (each.rule.project, each.rule.kind, each.rule.name))


def document_of(limit: LimitAddress) -> dict[str, Any]:
    """A limit as `limits --json` shows it: at most `MAX_SHOWN` holders and waiting ones, those that are next
    first."""
    rule = limit.rule
    waiting = [(place, limit.wishes[place]) for *_, place in limit.queue]
    document: dict[str, Any] = {
        "kind": rule.kind,
        "project": rule.project,
        "key": rule.name,
        "limit": rule.limit,
        "held": limit.held,
        "waiting": sum(wish.amount - wish.granted for _, wish in waiting),
        "holders": [
            {**_path(place), "members": each.amount, "since": each.since}
            for place, each in list(limit.holders.items())[:MAX_SHOWN]
        ],
        "queue": [
            {**_path(place), "members": wish.amount - wish.granted, "since": wish.since}
            for place, wish in waiting[:MAX_SHOWN]
        ],
    }
    if rule.kind == "rate":
        document |= {"per": rule.per, "burst": rule.burst}
    if limit.breaker is not None:
        document |= {"state": limit.breaker.phase, "until": limit.breaker.until or None}
    if limit.blocked_until:
        document["blocked_until"] = limit.blocked_until
    return document


def _path(place: Place) -> dict[str, Any]:
    run_id, _, group, task, _, _ = place
    return {"run_id": run_id, "group": group or None, "task": task or None}


def said_of(limit: LimitAddress, run_id: str, group: str | None, task: str | None) -> str:
    """What a wish of a task, or of a run, waits for: how much is held, by whom, and how many are ahead."""
    rule, ahead = limit.rule, 0
    for *_, place in limit.queue:
        if (place[0], place[2], place[3]) == (run_id, group or "", task or ""):
            break
        ahead += limit.wishes[place].amount - limit.wishes[place].granted
    others = f"{ahead:,} ahead" if ahead else "next in turn"
    if rule.kind == "breaker":
        state = limit.breaker.phase.replace("_", " ") if limit.breaker is not None else "closed"
        return f"the breaker of the agent {rule.name!r}, which is {state}: {others}"
    if rule.kind == "rate":
        return f"the rate {rule.name!r}, {rule.limit:,} in {rule.per:g} s: {others}"
    named = list(dict.fromkeys("/".join(filter(None, (each[0], each[2], each[3]))) for each in limit.holders))
    more = f" and {len(named) - MAX_NAMED:,} more" if len(named) > MAX_NAMED else ""
    held = f"{limit.held:,} of {rule.limit:,} held by {', '.join(named[:MAX_NAMED])}{more}"
    return f"the concurrency key {rule.name!r}: {held}; {others}"


async def listed(client: Client, settings: Settings) -> list[dict[str, Any]]:
    """The documents of all limits, read through a connected client. Raises ServerUnavailable."""
    sources = Sources(client.log, client.store, client.names)
    return [document_of(limit) for limit in await limits_of(sources, settings)]
