"""A turn: one message, the state that it changes, and the effects and events that follow. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from anabranch.core.admissions import log_position
from anabranch.core.errors import Problem
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.core.project import project_named
from anabranch.core.request.configured_limits import ConfiguredLimits
from anabranch.core.retention import ttl_for
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.codec import encode
from anabranch.core.wire.events import EventEntry, cause_of
from anabranch.core.wire.messages import ControlRun, Message, Status, SubmitRun
from anabranch.core.wire.results import RunRejected
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Outgoing
from anabranch.runtime.ownership.effects import Effect, PublishAfter, StorePut
from anabranch_agency.run.known_plans import KnownPlans
from anabranch_agency.run.state import PartitionState, Run


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Settings that are fixed for a run at its admission: bytes of an inline value, members of a task."""

    inline_bytes: int
    members: int


@dataclass(frozen=True, slots=True)
class DecisionConfig:
    """Settings that decisions depend on. Times are in seconds."""

    names: Names
    result_ttl: float = 86_400.0
    result_bytes: int = 1_000_000
    """The most bytes of the body of a record on the results topic."""
    limits: RunLimits | None = None
    """Limits that each admitted run carries; if None, the session's owner uses its own."""
    configured_limits: ConfiguredLimits | None = None
    """Limits of agents and projects, of which each started run carries those that concern it."""
    plans: KnownPlans = field(default_factory=KnownPlans, init=False, repr=False, compare=False)
    """Compiled plans. They change no decision, only what it costs."""


@dataclass(frozen=True, slots=True)
class DeadLetterOriginal:
    """Publish the record at `origin` (`topic/partition/offset`) as a dead letter."""

    origin: str
    code: str
    reason: str
    project: str


SIGNALS = "signals"
"""The kind of the store's key with the signals of a run that is not submitted yet."""


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Submit the request of an ended run again as its retry. `offset` is the position of its record in the
    partition."""

    control: ControlRun
    offset: int
    project: str


@dataclass(frozen=True, slots=True)
class EventOf:
    """A lifecycle event, with the ids of its run."""

    run_id: str
    request_id: str
    session_id: str
    entry: EventEntry


@dataclass(slots=True)
class Turn:
    """A message at `offset`, written at `at` (seconds since the epoch), against the state of a partition."""

    config: DecisionConfig
    partition: PartitionState
    offset: int
    at: float
    effects: list[Effect] = field(default_factory=list)
    events: list[EventOf] = field(default_factory=list)
    ended: list[tuple[Run, Status]] = field(default_factory=list)
    """The runs that ended in this turn, with their status."""

    def publish(self, topic: str, key: str, message: Message) -> None:
        self.publish_encoded(topic, key, encode(message))

    def publish_last(self, topic: str, key: str, message: Message) -> None:
        """Publish a message after all else of the turn."""
        self.effects.append(PublishAfter(Outgoing(topic, key, encode(message)), is_last=True))

    def publish_encoded(self, topic: str, key: str, value: bytes) -> None:
        self.effects.append(PublishAfter(Outgoing(topic, key, value)))

    @property
    def position(self) -> int:
        """The position of the message over all generations of the log."""
        return log_position(self.partition.generation, self.offset)

    def store_record(self, run_id: str, tombstone: RunRecord, deadline: float) -> None:
        """Store the record of a run before anything about it is published."""
        key = self.config.names.tombstone(run_id)
        ttl = ttl_for(deadline, self.at, self.config.result_ttl)
        self.effects.append(StorePut(run_id, key, tombstone.encode(), ttl))

    def store_project(self, session_id: str, project: str, deadline: float) -> None:
        """Store the project of a session for as long as its values are kept."""
        key = self.config.names.session_project(session_id)
        ttl = ttl_for(deadline, self.at, self.config.result_ttl)
        # Not fenced: the first request of a session decides its project, so every owner writes the same value.
        self.effects.append(StorePut(session_id, key, project.encode(), ttl, fenced=False))

    def store_early(self, control: ControlRun, kind: str) -> None:
        """Store a control record that arrived before its run, for later owners of the partition."""
        key = self.config.names.early(control.run_id, kind)
        about = {"offset": self.position, "origin": control.origin, "by": control.by, "reason": control.reason}
        value = dumps({"action": control.action, **about, "at": self.at})
        self.effects.append(StorePut(control.run_id, key, value, self.config.result_ttl))

    def store_early_signals(self, run_id: str) -> None:
        """Store the signals that arrived before their run, for later owners of the partition."""
        key = self.config.names.early(run_id, SIGNALS)
        value = self.partition.early_signals.encode(run_id)
        self.effects.append(StorePut(run_id, key, value, self.config.result_ttl))

    def publish_result(
        self,
        kind: str,
        event_id: str,
        body: dict[str, Any],
        *,
        at: float,
        key: str | None,
        traceparent: str | None,
    ) -> None:
        headers = cloud_event_headers(kind, event_id, at, subject=body["run_id"], traceparent=traceparent)
        value = dumps(body)
        self.effects.append(PublishAfter(Outgoing(self.config.names.results, key, value, headers=headers)))

    def address_event(self, address: str, name: str, kind: str, /, **data: Any) -> None:
        """An event of a schedule or a breaker, whose address stands in place of a run id."""
        cause = cause_of(self.offset, len(self.events), self.partition.generation)
        entry = EventEntry(type=kind, cause=cause, time=self.at, data=data)
        self.events.append(EventOf(address, name, address, entry))

    def event(self, run_id: str, tombstone: RunRecord, kind: str, **data: Any) -> None:
        # Causes rise within a turn, too: readers drop an event whose cause is not above the last one of its
        # source.
        cause = cause_of(self.offset, len(self.events), self.partition.generation)
        entry = EventEntry(type=kind, cause=cause, time=self.at, data=data)
        self.events.append(EventOf(run_id, tombstone.request_id, tombstone.session_id, entry))


def refuse(turn: Turn, submit: SubmitRun, errors: list[Problem], warnings: tuple[str, ...]) -> None:
    """Refuse a request: publish the reason for the sender, and a dead letter for the operators of its project.

    The project is that of the request, which may differ from the project of the run that has the id.
    """
    project = project_named(submit.request)
    body = RunRejected(
        request_id=submit.request_id,
        run_id=submit.run_id,
        session_id=submit.session_id or None,
        project=project,
        errors=tuple(errors),
        warnings=warnings,
    ).to_document()
    turn.publish_result(
        "run.rejected",
        f"{submit.origin or submit.request_id}/rejected",
        body,
        at=turn.at,
        key=submit.request_id,
        traceparent=submit.traceparent,
    )
    reason = orjson.dumps([error.to_document() for error in errors]).decode()
    turn.effects.append(DeadLetterOriginal(submit.origin, str(errors[0].code), reason, project))
