"""One message being decided: the settings, the state, and the effects and events gathered on the way. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from anabranch.core.admissions import log_position
from anabranch.core.errors import Problem
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.core.project import project_named
from anabranch.core.retention import seconds_kept
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.codec import encode
from anabranch.core.wire.events import EventEntry, cause_of
from anabranch.core.wire.messages import ControlRun, Message, Status, SubmitRun
from anabranch.core.wire.results import RunRejected
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Outgoing
from anabranch.runtime.ownership.effects import Effect, PublishAfter, StorePut
from anabranch_agency.run.state import PartitionState, Run


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Settings that hold for a run from its admission to its end: bytes of an inline value, members of a task."""

    inline_bytes: int
    members: int


@dataclass(frozen=True, slots=True)
class DecisionConfig:
    """Settings that decisions depend on. Seconds."""

    names: Names
    result_ttl: float = 86_400.0
    result_bytes: int = 1_000_000
    """Of the body of a record on the results topic."""
    limits: RunLimits | None = None
    """Go along with each run that is admitted; None leaves them to the session's owner."""


@dataclass(frozen=True, slots=True)
class BuryOriginal:
    """Put the record at `origin` (`topic/partition/offset`) on the dead-letter topic."""

    origin: str
    code: str
    reason: str
    project: str


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Submit the request of an ended run again, as its retry; `offset` is that of its record in the partition."""

    control: ControlRun
    offset: int
    project: str


@dataclass(frozen=True, slots=True)
class EventOf:
    """A lifecycle event of a run, and who it is about."""

    run_id: str
    request_id: str
    session_id: str
    entry: EventEntry


@dataclass(slots=True)
class Turn:
    """A message at `offset`, written at `at` (seconds since the epoch), against the state of a partition."""

    rules: DecisionConfig
    partition: PartitionState
    offset: int
    at: float
    effects: list[Effect] = field(default_factory=list)
    events: list[EventOf] = field(default_factory=list)
    ended: list[tuple[Run, Status]] = field(default_factory=list)
    """The runs that ended in this turn, and how."""

    def tell(self, topic: str, key: str, message: Message) -> None:
        self.effects.append(PublishAfter(Outgoing(topic, key, encode(message))))

    @property
    def position(self) -> int:
        """Of the message, over all lives of the log."""
        return log_position(self.partition.generation, self.offset)

    def keep(self, run_id: str, tombstone: RunRecord, deadline: float) -> None:
        """Make what is known of a run durable before anybody hears of it."""
        key = self.rules.names.tombstone(run_id)
        ttl = seconds_kept(deadline, self.at, self.rules.result_ttl)
        self.effects.append(StorePut(run_id, key, tombstone.encode(), ttl))

    def keep_project(self, session_id: str, project: str, deadline: float) -> None:
        """Remember whose a session is for as long as its values are there."""
        key = self.rules.names.session_project(session_id)
        ttl = seconds_kept(deadline, self.at, self.rules.result_ttl)
        self.effects.append(StorePut(session_id, key, project.encode(), ttl, fenced=False))

    def keep_early(self, control: ControlRun, kind: str) -> None:
        """Remember, for whoever owns the partition then, a control record that came before its run."""
        key = self.rules.names.early(control.run_id, kind)
        value = dumps({"action": control.action, "offset": self.position, "origin": control.origin})
        self.effects.append(StorePut(control.run_id, key, value, self.rules.result_ttl))

    def announce(
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
        self.effects.append(PublishAfter(Outgoing(self.rules.names.results, key, value, headers=headers)))

    def event(self, run_id: str, tombstone: RunRecord, kind: str, **data: Any) -> None:
        cause = cause_of(self.offset, len(self.events), self.partition.generation)
        entry = EventEntry(type=kind, cause=cause, time=self.at, data=data)
        self.events.append(EventOf(run_id, tombstone.request_id, tombstone.session_id, entry))


def refuse(turn: Turn, submit: SubmitRun, errors: list[Problem], warnings: tuple[str, ...]) -> None:
    """Nothing is started: the reason for the sender, and the record as it came for the operators of the project
    that the request names, which need not be that of the run that has the id."""
    project = project_named(submit.request)
    body = RunRejected(
        request_id=submit.request_id,
        run_id=submit.run_id,
        session_id=submit.session_id or None,
        project=project,
        errors=tuple(errors),
        warnings=warnings,
    ).to_document()
    turn.announce(
        "run.rejected",
        f"{submit.origin or submit.request_id}/rejected",
        body,
        at=turn.at,
        key=submit.request_id,
        traceparent=submit.traceparent,
    )
    reason = orjson.dumps([error.to_document() for error in errors]).decode()
    turn.effects.append(BuryOriginal(submit.origin, str(errors[0].code), reason, project))
