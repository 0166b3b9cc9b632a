"""Computes what the store should hold: reads the topics from their beginning and replays the services' decisions.

Reads the log only; publishes and writes nothing.
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
from anabranch_agency.run.turn import DecisionConfig as RunConfig
from anabranch_eventmanager.projection.decisions import EventProjection, RecordPosition
from anabranch_eventmanager.projection.documents import Document
from anabranch_eventmanager.projection.records import decode_record
from anabranch_taskgroup.session import actor as taskgroup
from anabranch_taskgroup.session.partition import PartitionState as Groups
from anabranch_taskgroup.session.turn import DecisionConfig as SessionConfig
from anabranch_taskgroup.session.turn import FoldKey, WriteDerivedKeys

IDLE_SECONDS = 10.0
"""Seconds without a record before the known end of a partition, after which the rest is reported as incomplete."""


@dataclass(frozen=True, slots=True)
class RunSelection:
    """The runs to rebuild: one run, all runs of a session, or (with neither) all runs."""

    run_id: str | None = None
    session_id: str | None = None

    def includes(self, run_id: str, session_id: str | None) -> bool:
        if self.run_id is not None:
            return run_id == self.run_id
        return self.session_id is None or session_id == self.session_id


@dataclass(slots=True)
class PublishedOutcome:
    """The records of one run on the results topic. Times are in seconds since the epoch."""

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
    """Yield the records of a partition, from the first that retention left up to the current end.

    If the broker delivers nothing for IDLE_SECONDS before the end, a note is added to `incomplete`.
    """
    async with log.read(topic, [partition], "earliest") as reader:
        end = (await reader.end_offsets())[partition]
        batches = aiter(reader)
        at = 0
        while at < end:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    batch = await anext(batches)
            except TimeoutError:
                # Nothing at all arrives also if retention removed every record before the end, which is no gap.
                if at:
                    incomplete.append(f"{topic}/{partition}: read to offset {at} of {end}")
                return
            for record in batch:
                if record.offset < end:
                    yield record
            at = batch[-1].offset + 1


async def read_results(
    log: EventLog, names: Names, partition: int, selection: RunSelection, incomplete: list[str]
) -> dict[str, PublishedOutcome]:
    """The published outcomes of the runs in a partition of `results`, by run id."""
    found: dict[str, PublishedOutcome] = {}
    async for record in read_all(log, names.results, partition, incomplete):
        kind = (dict(record.headers).get("ce_type") or b"").decode("utf-8", "replace")
        if kind == "run.rejected":
            continue
        body = _body(record)
        if body is None or not selection.includes(body["run_id"], body["session_id"]):
            continue
        outcome = found.setdefault(
            body["run_id"], PublishedOutcome(body["run_id"], body["session_id"], body["request_id"])
        )
        _add_record(outcome, kind, body, record.timestamp)
    return found


def _body(record: Incoming) -> dict[str, Any] | None:
    """The body of a record written by a service; None for a foreign record on the topic."""
    try:
        body = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        return None
    is_ours = isinstance(body, dict) and {"run_id", "session_id", "request_id"} <= body.keys()
    return body if is_ours else None


def _add_record(outcome: PublishedOutcome, kind: str, body: dict[str, Any], at: float) -> None:
    if kind == "result.published":
        if "policy" not in body:  # with a policy, the session's value is merged from several runs, on `groups`
            outcome.published[body["result_key"]] = (body["version"], body["value"])
    elif kind == "run.accepted":
        outcome.accepted, outcome.accepted_at = body, at
    elif outcome.final is None:  # later final records are repetitions
        outcome.final, outcome.ended_at = body, at


def tombstone_of(outcome: PublishedOutcome) -> RunRecord | None:
    """The tombstone of an ended run whose request is no longer on the log; None without its acceptance or final
    record."""
    if outcome.accepted is None or outcome.final is None:
        return None
    return RunRecord(
        body_hash=None,
        offset=-1,
        session_id=outcome.session_id,
        request_id=outcome.request_id,
        accepted=outcome.accepted,
        accepted_at=outcome.accepted_at,
        final=outcome.final,
        ended_at=outcome.ended_at,
    )


@dataclass(frozen=True, slots=True)
class ExpectedWrite:
    """A write that the store should have seen.

    Attributes:
        at: timestamp of the record that caused it, in seconds since the epoch; the time to live counts from here.
        version: offset of that record; of two writes to a key, the higher version is the later one.
    """

    run_id: str
    put: StorePut | AppendHistory
    at: float
    version: int


async def replay_runs(
    log: EventLog,
    config: RunConfig,
    partition: int,
    generation: int,
    selection: RunSelection,
    incomplete: list[str],
) -> AsyncGenerator[ExpectedWrite, None]:
    """Yield the writes of the Agency: tombstones, and the pages that final records refer to."""
    state = Runs(partition, generation)
    chosen: set[str] = set()
    async for record in read_all(log, config.names.runs, partition, incomplete):
        message = _decoded(RUNS, record)
        if isinstance(message, SubmitRun) and selection.includes(message.run_id, message.session_id):
            chosen.add(message.run_id)
        run_id = getattr(message, "run_id", None)
        # Runs share no state, so the records of the others can be left out.
        if message is None or run_id not in chosen:
            continue
        turn = agency.decide(config, state, message, record.offset, record.timestamp)
        for effect in turn.effects:
            if isinstance(effect, StorePut):
                yield ExpectedWrite(run_id, effect, record.timestamp, record.offset)


async def replay_groups(
    log: EventLog,
    config: SessionConfig,
    partition: int,
    generation: int,
    selection: RunSelection,
    incomplete: list[str],
) -> AsyncGenerator[ExpectedWrite | WriteDerivedKeys | FoldKey, None]:
    """Yield the writes of the session's owner: pages, manifests, values and history. `WriteDerivedKeys` and
    `FoldKey` are effects whose writes depend on pages, so the caller computes them after the pages are written."""
    state = Groups(partition, generation)
    chosen: set[str] = set()
    async for record in read_all(log, config.names.groups, partition, incomplete):
        try:
            found = GROUPS.decode(record.value)
        except Undecodable:
            continue
        message = found.message
        if isinstance(message, OpenRun) and selection.includes(message.run_id, message.session_id):
            chosen.add(message.run_id)
        run_id = getattr(message, "run_id", None)
        if run_id not in chosen:
            continue
        delivery = taskgroup.DeliveredMessage(message, found.segments, record.offset, record.timestamp)
        for effect in taskgroup.decide(config, state, delivery).effects:
            if isinstance(effect, StorePut | AppendHistory):
                yield ExpectedWrite(run_id, effect, record.timestamp, record.offset)
            elif isinstance(effect, WriteDerivedKeys | FoldKey):
                yield effect


def _decoded(codec: Any, record: Incoming) -> Message | None:
    try:
        message: Message = codec.decode(record.value).message
    except Undecodable:
        return None
    return message


async def project_events(
    log: EventLog, names: Names, partition: int, selection: RunSelection, incomplete: list[str]
) -> dict[str, Document]:
    """The documents that the EventManager projects from the events of a partition."""
    projection = EventProjection(names.subscriber_channels)
    documents: dict[str, Document] = {}
    async for record in read_all(log, names.events, partition, incomplete):
        try:
            decoded = decode_record(record.value)
        except Undecodable:
            continue
        run_id = getattr(decoded, "run_id", None)
        if run_id is not None and selection.includes(run_id, decoded.session_id):
            at = RecordPosition(partition, record.offset, record.timestamp)
            documents.update(projection.apply(documents, decoded, at).writes)
    return documents


def public_values(outcome: PublishedOutcome) -> Iterator[tuple[str, int, bytes]]:
    """Yield (key in the store, version, value) of each published result."""
    for key, (version, value) in outcome.published.items():
        yield session_key(outcome.session_id, key), version, orjson.dumps(value)
