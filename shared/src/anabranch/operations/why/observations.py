"""Reads what `why` needs from the servers: ranges of the log, consumer groups, claims, liveness keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson
from pydantic import ValidationError

from anabranch.core.lanes import Lane, Priority
from anabranch.core.names import Names, request_id_for, run_id_for
from anabranch.core.reasons import Fact, Missing
from anabranch.core.wire.codec import TASKS, Undecodable
from anabranch.core.wire.dead_letters import CODE, MEMBER_FAILED, ORIGIN, REASON
from anabranch.core.wire.worker_card import WorkerCard, read_card
from anabranch.operations.why.evidence import RequiredPartition, WaitingOffer
from anabranch.ports import EventLog, Incoming, Standing, StateStore
from anabranch.runtime.ownership.replay import replay_begin
from anabranch.runtime.reading.log_range import records_between

FINAL_TYPES = ("run.completed", "run.failed", "run.cancelled", "run.timed_out")
TAIL_RECORDS = 20_000
"""Maximum number of records read from the end of each partition of `requests`, `results`, `tasks` and
`dead-letters`, so that a long topic does not make `why` slow. The run's own partitions are read in full."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The log and the store to read from."""

    log: EventLog
    store: StateStore
    names: Names


class StateReplay(Protocol):
    """State that is computed from records."""

    def apply(self, record: Incoming) -> None: ...


@dataclass(frozen=True, slots=True)
class UnreadRequest:
    """Position of a request that no Agency has read yet."""

    place: RequiredPartition
    offset: int
    since: float


def replay_start(standing: Standing) -> int:
    """First offset from which the partition holds every record of every open run."""
    return max(standing.first, replay_begin(standing.committed))


async def replay_range(
    log: EventLog, topic: str, partition: int, start: int, end: int, replay: StateReplay
) -> None:
    """Apply the records from `start` up to, but not including, `end`."""
    async with aclosing(records_between(log, topic, partition, start, end)) as found:
        async for record in found:
            replay.apply(record)


# --- requests that are not admitted, and rejected requests -------------------------------------------------------


async def unread_request(sources: Sources, run: str) -> UnreadRequest | None:
    """The request with this run id or request id on `requests`, if no Agency has read it yet."""
    topic = sources.names.requests
    standings = await sources.log.group_standing(sources.names.agency_requests, topic)
    for partition, standing in standings.items():
        start = max(standing.position, standing.end - TAIL_RECORDS)
        async with aclosing(records_between(sources.log, topic, partition, start, standing.end)) as found:
            async for record in found:
                if run in _ids(record.value, request_id_for(topic, partition, record.offset)):
                    place = RequiredPartition(topic, partition, standing, record.timestamp)
                    return UnreadRequest(place, record.offset, record.timestamp)
    return None


def _ids(value: bytes, derived: str) -> Iterator[str]:
    """Request id and run id of a record on `requests`; nothing for a control record or invalid JSON."""
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return
    if not isinstance(document, dict) or "type" in document:
        return
    inner = document.get("object")
    key = document.get("key")
    named = document.get("request_id") or (inner.get("request_id") if isinstance(inner, dict) else None)
    if not named and isinstance(key, str):
        named = key.removeprefix("task_group:")
    request_id = str(named or derived)
    yield request_id
    yield run_id_for(request_id)


async def dead_letters_of(sources: Sources, run_ids: Iterable[str]) -> list[Incoming]:
    """The latest dead letters that contain one of these ids, without failed members."""
    topic = sources.names.dead_letters
    wanted = [run_id.encode() for run_id in run_ids]
    found = []
    for partition in range(await sources.log.partition_count(topic)):
        async with sources.log.read(topic, [partition]) as reader:
            end = (await reader.end_offsets())[partition]
        async with aclosing(
            records_between(sources.log, topic, partition, max(0, end - TAIL_RECORDS), end)
        ) as some:
            found += [r async for r in some if any(each in r.value or each == r.key for each in wanted)]
    return [record for record in found if header(record, CODE) != MEMBER_FAILED]


def header(record: Incoming, name: str) -> str:
    """A header as text; empty if the record has no such header."""
    return next((value.decode("utf-8", "replace") for key, value in record.headers if key == name and value), "")


async def is_final_published(sources: Sources, run_id: str) -> bool:
    """True if the run's final record is among the last TAIL_RECORDS records of its partition of `results`."""
    topic = sources.names.results
    partition = await sources.log.partition_for(topic, run_id)
    async with sources.log.read(topic, [partition]) as reader:
        end = (await reader.end_offsets())[partition]
    async with aclosing(records_between(sources.log, topic, partition, max(0, end - TAIL_RECORDS), end)) as found:
        async for record in found:
            if record.key == run_id.encode() and header(record, "ce_type") in FINAL_TYPES:
                return True
    return False


def dead_letter_entry(record: Incoming) -> Missing:
    """The entry of a dead letter: its origin and the reason."""
    return Missing(
        Fact.DEAD_LETTERED,
        since=record.timestamp,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        detail=f"{header(record, ORIGIN)}: {header(record, REASON)[:300]}",
    )


# --- workers -----------------------------------------------------------------------------------------------------


async def holders_of(sources: Sources, claims: Sequence[str]) -> tuple[Mapping[str, str], Mapping[str, bool]]:
    """The worker of each claim, by claim, and whether the liveness key of each of these workers is present."""
    found = await sources.store.get(claims) if claims else []
    holders = {claim: value.decode() for claim, value in zip(claims, found, strict=True) if value is not None}
    workers = sorted(set(holders.values()))
    shown = await sources.store.get([sources.names.worker(each) for each in workers]) if workers else []
    return holders, {worker: value is not None for worker, value in zip(workers, shown, strict=True)}


async def cards_of(sources: Sources, workers: Sequence[str]) -> Mapping[str, WorkerCard]:
    """What these workers announce of themselves, by worker, without those whose card is gone or unreadable."""
    found = await sources.store.get([sources.names.worker_card(each) for each in workers]) if workers else []
    cards: dict[str, WorkerCard] = {}
    for worker, value in zip(workers, found, strict=True):
        with suppress(ValidationError):  # a card of another version: the answer does without it
            if value is not None:
                cards[worker] = read_card(value)
    return cards


OfferPlace = tuple[str, str, int, int]
"""Group, task, chunk and fence of an offer."""


class LaneOffer(NamedTuple):
    """An offer of a run that no worker has taken yet.

    Attributes:
        before: offers of its level that are before it in its partition.
    """

    offer: WaitingOffer
    level: Priority
    before: int


@dataclass(frozen=True, slots=True)
class LaneOffers:
    """The offers on the topic of a lane that no worker has taken yet.

    Attributes:
        of_run: those of one run.
        levels: the number of all, by level. Offers of a level are on the topic of `normal` until it is in use.
    """

    of_run: Mapping[OfferPlace, LaneOffer]
    levels: Counter[Priority]


async def waiting_offers(
    sources: Sources, run_id: str, lane: Lane, standings: Mapping[int, Standing]
) -> LaneOffers:
    """The offers on the topic of a lane that no worker has taken yet."""
    topic = sources.names.tasks(lane)
    found: dict[OfferPlace, LaneOffer] = {}
    levels: Counter[Priority] = Counter()
    for partition, standing in standings.items():
        start = max(standing.position, standing.end - TAIL_RECORDS)
        before: Counter[Priority] = Counter({lane.priority: start - standing.position})
        async with aclosing(records_between(sources.log, topic, partition, start, standing.end)) as some:
            async for record in some:
                offer = _offer_of(record, run_id)
                level = lane.priority if offer is None else offer.priority
                if offer is not None and offer.run_id == run_id:
                    place = (offer.group, offer.task, offer.chunk, offer.fence)
                    waiting = WaitingOffer(partition, record.offset, standing.lag, topic)
                    found[place] = LaneOffer(waiting, level, before[level])
                before[level] += 1
        levels += before
    return LaneOffers(found, levels)


def _offer_of(record: Incoming, run_id: str) -> Any:
    """The offer if it is one of the run, or may be of another level than its topic."""
    # The search in the bytes spares the decoding of most offers of other runs.
    if run_id.encode() not in record.value and b'"priority":' not in record.value.partition(b"\n")[0]:
        return None
    try:
        return TASKS.decode(record.value).message
    except Undecodable:
        return None
