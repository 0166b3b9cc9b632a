"""Reads the limits that runs share from the log: who holds them, and who waits for them.

Works while no service is running, because the state of a limit's owner is a fold over the log. Reads only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from anabranch.core.durations import format_duration
from anabranch.core.limit_addresses import PREFIX
from anabranch.core.timestamps import utc_text
from anabranch.core.waiting import waits_for_limit
from anabranch.core.wire.codec import RUNS, Undecodable
from anabranch.core.wire.delivered_message import DeliveredMessage
from anabranch.core.wire.messages import Snapshot
from anabranch.operations.why.observations import Sources, replay_range, replay_start
from anabranch.ports import Incoming
from anabranch.runtime.ownership.replay import committed_generation

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings
    from anabranch.sdk.client import Client
    from anabranch_agency.run.limit_state import BreakerState, LimitAddress, Place

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


def document_of(limit: LimitAddress, now: float) -> dict[str, Any]:
    """A limit as `limits --json` shows it: at most `MAX_SHOWN` holders and waiting ones, those that are next
    first.

    Args:
        now: seconds since the epoch.
    """
    rule = limit.rule
    waiting = [(place, limit.wishes[place]) for *_, place in limit.queue]
    document: dict[str, Any] = {
        "kind": rule.kind,
        "project": rule.project,
        "key": rule.name,
        "scope": rule.scope,
        "limit": rule.limit,
        "held": limit.held,
        "waiting": sum(wish.amount - wish.granted for _, wish in waiting),
        "holders": _by_path((place, each.amount, each.since) for place, each in limit.holders.items()),
        "queue": _by_path((place, wish.amount - wish.granted, wish.since) for place, wish in waiting),
    }
    if rule.kind == "rate":
        document |= {"per": rule.per, "burst": rule.burst}
    if limit.breaker is not None:
        document |= _state_of(limit.breaker, now)
    if limit.blocked_until > now:
        document["blocked_until"] = limit.blocked_until
    return document


def _state_of(breaker: BreakerState, now: float) -> dict[str, Any]:
    """Whether a breaker is open, until when (None: until a person closes it), and who has opened it by hand."""
    if breaker.phase != "open":
        return {"state": breaker.phase, "until": None}
    if breaker.by_hand:
        return {"state": "open", "until": None, "by": breaker.by or None, "reason": breaker.reason or None}
    # Its owner looks at it with the next member that asks.
    is_over = breaker.until <= now
    return {"state": "half_open" if is_over else "open", "until": None if is_over else breaker.until}


def _by_path(places: Iterable[tuple[Place, int, float]]) -> list[dict[str, Any]]:
    """One entry for each task or run, with all its members and the time since when the first of them is there."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for (run_id, _, group, task, _, _), amount, since in places:
        named = {"run_id": run_id, "group": group or None, "task": task or None}
        entry = found.setdefault((run_id, group, task), {**named, "members": 0, "since": since})
        entry["members"] += amount
        entry["since"] = min(entry["since"], since)
    return list(found.values())[:MAX_SHOWN]


def said_of(limit: LimitAddress, run_id: str, group: str | None, task: str | None, now: float) -> str:
    """What a wish of a task, or of a run, waits for: how much is held, by whom, and how many are ahead.

    Args:
        now: seconds since the epoch.
    """
    rule, ahead = limit.rule, 0
    for *_, place in limit.queue:
        if (place[0], place[2], place[3]) == (run_id, group or "", task or ""):
            break
        ahead += limit.wishes[place].amount - limit.wishes[place].granted
    others = f"{ahead:,} ahead" if ahead else "next in turn"
    if limit.blocked_until > now:
        others = f"nothing is granted before {utc_text(limit.blocked_until)}; {others}"
    what = waits_for_limit(rule.kind, rule.name, rule.scope)
    if rule.kind == "breaker":
        state = {"state": "closed"} if limit.breaker is None else _state_of(limit.breaker, now)
        return f"{what}, which is {said_of_breaker(state)}; {others}"
    if rule.kind == "rate":
        return f"{what}: {rule.limit:,} in {format_duration(rule.per)}; {others}"
    named = list(dict.fromkeys("/".join(filter(None, (each[0], each[2], each[3]))) for each in limit.holders))
    more = f" and {len(named) - MAX_NAMED:,} more" if len(named) > MAX_NAMED else ""
    by = f" by {', '.join(named[:MAX_NAMED])}{more}" if named else ""
    return f"{what}: {limit.held:,} of {rule.limit:,} held{by}; {others}"


def said_of_breaker(document: Mapping[str, Any]) -> str:
    """The state of a breaker in words, from its document: `open until TIME`, `open, by ann: maintenance`."""
    state = str(document.get("state", "closed")).replace("_", " ")
    if state != "open":
        return state
    if document.get("until") is not None:
        return f"open until {utc_text(float(ceil(document['until'])))}"
    by = f", by {document['by']}" if document.get("by") else " by hand"
    reason = f": {document['reason']}" if document.get("reason") else ""
    return f"open{by}{reason}"


async def listed(client: Client, settings: Settings) -> list[dict[str, Any]]:
    """The documents of all limits, read through a connected client. Raises ServerUnavailable."""
    sources = Sources(client.log, client.store, client.names)
    now = client.links.clock.now()
    return [document_of(limit, now) for limit in await limits_of(sources, settings)]
