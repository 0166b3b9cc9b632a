"""What the log says should be in the store: the topics read from their beginning, and the owners' own decisions
made again. Reads the log only; it writes nothing and tells nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from anabranch.core.names import Names, session_key
from anabranch.core.wire.codec import GROUPS, RUNS, Undecodable
from anabranch.core.wire.messages import Message, OpenRun, SubmitRun
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import EventLog, Incoming
from anabranch.runtime.ownership.effects import AppendHistory, StorePut
from anabranch_agency.run import actor as agency
from anabranch_agency.run.state import PartitionState as Runs
from anabranch_agency.run.turn import DecisionConfig as RunRules
from anabranch_eventmanager.projection.decisions import At, EventProjection
from anabranch_eventmanager.projection.documents import Document
from anabranch_eventmanager.projection.records import decode_record
from anabranch_taskgroup.session import actor as taskgroup
from anabranch_taskgroup.session.partition import PartitionState as Groups
from anabranch_taskgroup.session.turn import DecisionConfig, FoldKey, SpreadKeys

IDLE_SECONDS = 10.0
"""A topic that says nothing for so long before its end is taken to have lost what is missing."""


@dataclass(frozen=True, slots=True)
class RunSelection:
    """Which runs are meant: one, those of a session, or all."""

    run_id: str | None = None
    session_id: str | None = None

    def takes(self, run_id: str, session_id: str | None) -> bool:
        if self.run_id is not None:
            return run_id == self.run_id
        return self.session_id is None or session_id == self.session_id


@dataclass(slots=True)
class PublishedOutcome:
    """What the results topic says of one run. Times are seconds since the epoch."""

    run_id: str
    session_id: str
    request_id: str
    accepted: dict[str, Any] | None = None
    accepted_at: float = 0.0
    final: dict[str, Any] | None = None
    ended_at: float = 0.0
    published: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Result key -> (version, value or reference)."""


async def read_all(
    log: EventLog, topic: str, partition: int, incomplete: list[str]
) -> AsyncGenerator[Incoming, None]:
    """The records of a partition from the first that is left to the last that is there now."""
    async with log.read(topic, [partition], "earliest") as reader:
        end = (await reader.end_offsets())[partition]
        batches = aiter(reader)
        at = 0
        while at < end:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    batch = await anext(batches)
            except TimeoutError:
                if at:
                    incomplete.append(f"{topic}/{partition}: read to offset {at} of {end}")
                return
            for record in batch:
                if record.offset < end:
                    yield record
            at = batch[-1].offset + 1


async def read_results(
    log: EventLog, names: Names, partition: int, choice: RunSelection, incomplete: list[str]
) -> dict[str, PublishedOutcome]:
    """What was told of the runs of a partition."""
    found: dict[str, PublishedOutcome] = {}
    async for record in read_all(log, names.results, partition, incomplete):
        kind = (dict(record.headers).get("ce_type") or b"").decode("utf-8", "replace")
        if kind == "run.rejected":
            continue
        body = _body(record)
        if body is None or not choice.takes(body["run_id"], body["session_id"]):
            continue
        told = found.setdefault(
            body["run_id"], PublishedOutcome(body["run_id"], body["session_id"], body["request_id"])
        )
        _note(told, kind, body, record.timestamp)
    return found


def _body(record: Incoming) -> dict[str, Any] | None:
    """The body of a record written by a service; None for a foreign record on the topic."""
    try:
        body = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        return None
    is_ours = isinstance(body, dict) and {"run_id", "session_id", "request_id"} <= body.keys()
    return body if is_ours else None


def _note(told: PublishedOutcome, kind: str, body: dict[str, Any], at: float) -> None:
    if kind == "result.published":
        if "policy" not in body:  # else the session has what its runs made together
            told.published[body["result_key"]] = (body["version"], body["value"])
    elif kind == "run.accepted":
        told.accepted, told.accepted_at = body, at
    elif told.final is None:
        told.final, told.ended_at = body, at


def tombstone_of(told: PublishedOutcome) -> RunRecord | None:
    """What is known of an ended run whose request is no longer on the log; None where that is too little."""
    if told.accepted is None or told.final is None:
        return None
    return RunRecord(
        body_hash=None,
        offset=-1,
        session_id=told.session_id,
        request_id=told.request_id,
        accepted=told.accepted,
        accepted_at=told.accepted_at,
        final=told.final,
        ended_at=told.ended_at,
    )


@dataclass(frozen=True, slots=True)
class ExpectedWrite:
    """What the store should have: of which run, of which record's time, in which order."""

    run_id: str
    put: StorePut | AppendHistory
    at: float
    version: int


async def refold_runs(
    log: EventLog, rules: RunRules, partition: int, generation: int, choice: RunSelection, incomplete: list[str]
) -> AsyncGenerator[ExpectedWrite, None]:
    """Tombstones, and what final records refer to."""
    state = Runs(partition, generation)
    chosen: set[str] = set()
    async for record in read_all(log, rules.names.runs, partition, incomplete):
        message = _decoded(RUNS, record)
        if isinstance(message, SubmitRun) and choice.takes(message.run_id, message.session_id):
            chosen.add(message.run_id)
        run_id = getattr(message, "run_id", None)
        if message is None or run_id not in chosen:
            continue
        turn = agency.decide(rules, state, message, record.offset, record.timestamp)
        for effect in turn.effects:
            if isinstance(effect, StorePut):
                yield ExpectedWrite(run_id, effect, record.timestamp, record.offset)


async def refold_groups(
    log: EventLog,
    rules: DecisionConfig,
    partition: int,
    generation: int,
    choice: RunSelection,
    incomplete: list[str],
) -> AsyncGenerator[ExpectedWrite | SpreadKeys | FoldKey, None]:
    """Pages, manifests and values of the session; which pages are to be spread over keys of their own, and which
    values to be folded into the session's."""
    state = Groups(partition, generation)
    chosen: set[str] = set()
    async for record in read_all(log, rules.names.groups, partition, incomplete):
        try:
            found = GROUPS.decode(record.value)
        except Undecodable:
            continue
        message = found.message
        if isinstance(message, OpenRun) and choice.takes(message.run_id, message.session_id):
            chosen.add(message.run_id)
        run_id = getattr(message, "run_id", None)
        if run_id not in chosen:
            continue
        delivery = taskgroup.DeliveredMessage(message, found.segments, record.offset, record.timestamp)
        for effect in taskgroup.decide(rules, state, delivery).effects:
            if isinstance(effect, StorePut | AppendHistory):
                yield ExpectedWrite(run_id, effect, record.timestamp, record.offset)
            elif isinstance(effect, SpreadKeys | FoldKey):
                yield effect


def _decoded(codec: Any, record: Incoming) -> Message | None:
    try:
        message: Message = codec.decode(record.value).message
    except Undecodable:
        return None
    return message


async def refold_events(
    log: EventLog, names: Names, partition: int, choice: RunSelection, incomplete: list[str]
) -> dict[str, Document]:
    """The event manager's facts of the runs of a partition."""
    core = EventProjection(names.subscriber_channels)
    facts: dict[str, Document] = {}
    async for record in read_all(log, names.events, partition, incomplete):
        try:
            decoded = decode_record(record.value)
        except Undecodable:
            continue
        run_id = getattr(decoded, "run_id", None)
        if run_id is not None and choice.takes(run_id, decoded.session_id):
            facts.update(core.apply(facts, decoded, At(partition, record.offset, record.timestamp)).writes)
    return facts


def public_values(told: PublishedOutcome) -> Iterator[tuple[str, int, bytes]]:
    """(key in the store, version, value) of each result that was told."""
    for key, (version, value) in told.published.items():
        yield session_key(told.session_id, key), version, orjson.dumps(value)
