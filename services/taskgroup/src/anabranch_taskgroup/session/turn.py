"""One message being decided: where it came from, the settings, and the effects gathered on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anabranch.core.admissions import log_position
from anabranch.core.context_versions import KEPT_VERSIONS, Change, Kind, position_of
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names, session_key
from anabranch.core.policies import Policy
from anabranch.core.retention import seconds_kept
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.codec import encode
from anabranch.core.wire.events import EventEntry, cause_of
from anabranch.core.wire.messages import Json, Message, Spans
from anabranch.core.wire.results import result_event_id
from anabranch.ports import Outgoing
from anabranch.runtime.ownership.effects import AppendHistory, Effect, Notify, PublishAfter, PublishFirst, StorePut
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Group, PublishedValue, Run
from anabranch_taskgroup.session.task_state import Task


@dataclass(frozen=True, slots=True)
class DecisionConfig:
    """Settings that decisions depend on. Bytes and seconds."""

    names: Names
    inline_limit: int = 65_536
    result_ttl: float = 86_400.0
    member_limit: int = 1_000_000
    window: int = 64
    """Chunks of a task that may wait for a worker: offered, and no member is known to have started."""
    chunk_limit: int = 500
    chunk_bytes: int = 400_000
    """Items of an array that one offer takes along."""
    chunk_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class OfferChunk:
    """Offer a chunk to the workers, as the state has it when the offer is made."""

    run_id: str
    group: str
    task: str
    chunk: int


@dataclass(frozen=True, slots=True)
class Watch:
    """Wait for a key of the session that somebody outside the run provides."""

    run_id: str
    session_id: str
    key: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Offer again at the next look whatever of a run nobody has claimed, without the wait between two offers."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Unwatch:
    run_id: str
    session_id: str
    key: str


@dataclass(frozen=True, slots=True)
class CountArrays:
    """Read the large arrays of a task's expansion and append how many members they make."""

    run_id: str
    group: str
    task: str


@dataclass(frozen=True, slots=True)
class ReduceKey:
    """Read what was given to a key with a policy and append what it makes."""

    run_id: str
    key: str


@dataclass(frozen=True, slots=True)
class FoldKey:
    """Fold a run's value of a key with a policy into what its session has.

    `task` is its last writer, `position` that of the change in the session, `submitted` is in seconds since the
    epoch, `ttl` in seconds, `replaces` the run of which this one is a retry. `value` is as it was told: a
    reference where `is_reference`.
    """

    run_id: str
    session_id: str
    key: str
    policy: Policy
    value: Json
    task: str | None
    position: int
    version: int
    submitted: float
    ttl: float
    replaces: str | None
    is_reference: bool = False
    inline_limit: int = 65_536
    """Of the run."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Carry what the run before left onto the log, then start the tasks of its retry."""

    run_id: str


@dataclass(frozen=True, slots=True)
class SpreadKeys:
    """Write the derived keys of a `separate` join whose pages are in the store, before its plain key.

    `keys` are the task's result keys, `ttl` is in seconds, `at` is the time of the join.
    """

    run_id: str
    request_id: str
    session_id: str
    group: str
    task: str
    keys: tuple[str, ...]
    ttl: float
    at: float
    version: int
    sources: tuple[str, ...] = ()
    """Under which keys their pages are, where not under their own."""
    inline_limit: int = 65_536
    """Of the run."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Tell the workers to stop the members of a run, or of one group of it."""

    run_id: str
    session_id: str
    reason: str
    group: str | None = None
    admission: int = 0


@dataclass(frozen=True, slots=True)
class Pause:
    """Tell the workers to start no further members of a run until its deadline, or (not `paused`) to go on."""

    run_id: str
    session_id: str
    paused: bool
    deadline: float


@dataclass(slots=True)
class Turn:
    """A message at `offset`, written at `at` (seconds since the epoch), against the state of a partition."""

    rules: DecisionConfig
    partition: PartitionState
    offset: int
    at: float
    effects: list[Effect] = field(default_factory=list)
    events: list[tuple[Run, EventEntry]] = field(default_factory=list)
    ended: list[tuple[Run, Group, Task | None]] = field(default_factory=list)
    """The tasks that ended in this turn, and (without a task) the groups."""
    known: list[tuple[Run, str]] = field(default_factory=list)
    """Keys that became known in this turn and whose waiters have not been looked at."""
    changes: int = 0
    """Changes of the shared context so far."""

    def event(
        self,
        run: Run,
        kind: str,
        *,
        group: str | None = None,
        task: Task | None = None,
        spans: Spans | None = None,
        attempt: int | None = None,
        time: float | None = None,
        **data: Any,
    ) -> None:
        """Note a lifecycle event; of an ordinary task `spans` stands for its one member, index null."""
        if task is not None and task.order.expansion is None:
            spans = None
        entry = EventEntry(
            type=kind,
            cause=cause_of(self.offset, len(self.events), self.partition.generation),
            time=self.at if time is None else time,
            group=task.group if task else group,
            task=task.name if task else None,
            spans=spans,
            attempt=attempt,
            data=data,
        )
        self.events.append((run, entry))

    def ttl(self, run: Run) -> float:
        """Seconds that a value of the run is kept: to its deadline and the retention of results after it."""
        return seconds_kept(run.deadline, self.at, self.rules.result_ttl)

    def put(self, run: Run, key: str, value: bytes) -> None:
        self.effects.append(StorePut(run.session_id, key, value, self.ttl(run)))

    def keep_in_session(self, run_id: str, reason: str, since: int, admission: int) -> None:
        """Remember for later owners of the session that a run ended or is to stop; `since` is the offset of the
        record that opened it, or asked for the stop."""
        key = self.rules.names.in_session(run_id)
        position = log_position(self.partition.generation, since)
        value = dumps({"reason": reason, "offset": position, "admission": admission})
        self.effects.append(StorePut(run_id, key, value, self.rules.result_ttl, fenced=False))

    def record(self, topic: str, key: str | None, message: Message) -> None:
        self.effects.append(PublishFirst(Outgoing(topic, key, encode(message))))

    def news(self, topic: str, key: str | None, message: Message, segments: Sequence[bytes] = ()) -> None:
        self.effects.append(PublishAfter(Outgoing(topic, key, encode(message, segments))))

    def note_change(self, run: Run, key: str, kind: Kind, told: PublishedValue, **more: Any) -> None:
        """Add a change of the session's context to its history."""
        change = Change.of_value(key, kind, run.run_id, self.at, told.shown, told.data, told.size, **more)
        name = self.rules.names.context(run.session_id)
        position = position_of(self.offset, self.changes)
        self.changes += 1
        entry = change.to_entry(told.data)
        self.effects.append(AppendHistory(run.session_id, name, position, entry, self.ttl(run), KEPT_VERSIONS))

    def fold_value(
        self, run: Run, key: str, policy: Policy, told: PublishedValue, task: str | None = None
    ) -> None:
        """Fold a value that was noted just now as a change into what the session has."""
        self.effects.append(
            FoldKey(
                run_id=run.run_id,
                session_id=run.session_id,
                key=key,
                policy=policy,
                value=told.shown,
                task=task,
                position=position_of(self.offset, self.changes - 1),
                version=self.offset,
                submitted=run.submitted_at,
                ttl=self.ttl(run),
                replaces=run.retry_of,
                is_reference=told.is_reference,
                inline_limit=run.inline_limit,
            )
        )

    def set_context(self, run: Run, key: str, told: PublishedValue) -> None:
        """A first value of the run's context."""
        shared = run.shared.get(key)
        if shared is None:
            self.note_change(run, key, "context", told)
            self.show_value(run, key, told, kind="context.set")
        else:
            self.note_change(run, key, "context", told, **shared_change(run, shared.policy))
            self.fold_value(run, key, shared.policy, told)

    def show_value(self, run: Run, key: str, told: PublishedValue, *, kind: str, task: str | None = None) -> None:
        """SET a value of the session under its public name, then PUBLISH that it is there."""
        name = session_key(run.session_id, key)
        self.put(run, name, told.data)
        self.effects.append(Notify(name, channel_message(kind, task, key, self.offset, run.run_id, told.data)))

    def publish_result(self, run: Run, group: Group, task: Task, key: str, told: PublishedValue) -> None:
        """A result: its value in the session, and a record on the results topic."""
        self.note_change(run, key, "result", told, group=group.name, task=task.name)
        self.publish_derived(run, group, task, key, told)

    def publish_derived(self, run: Run, group: Group, task: Task, key: str, told: PublishedValue) -> None:
        """A key that is no change of its own: the plain key of the join, which is one, holds its value."""
        self.show_value(run, key, told, kind="result.published", task=task.name)
        self.tell_result(run, key, result_body(run, group.name, task.name, key, told.shown, self.offset))

    def tell_result(self, run: Run, key: str, body: Mapping[str, Json]) -> None:
        """Put a result on the results topic."""
        headers = cloud_event_headers(
            "result.published",
            result_event_id(run.run_id, key),
            self.at,
            subject=run.run_id,
            traceparent=run.traceparent,
        )
        self.effects.append(
            PublishAfter(Outgoing(self.rules.names.results, run.run_id, dumps(body), headers=headers))
        )


def shared_change(run: Run, policy: Policy) -> dict[str, Any]:
    """What a change of a key with a policy says beside the others."""
    return {"policy": policy, "submitted": run.submitted_at, "replaces": run.retry_of}


SHOWN_BYTES = 4_096
"""A value up to it goes along with the message that it is there."""


def channel_message(kind: str, task: str | None, key: str, version: int, run_id: str, data: bytes) -> bytes:
    """What is said on the channel of a key whose value, as JSON, is `data`."""
    note = {"type": kind, "task_name": task, "result_key": key, "version": version, "run_id": run_id}
    body = dumps(note)
    return body[:-1] + b',"value":' + data + b"}" if len(data) <= SHOWN_BYTES else body


def result_body(
    run: Run | SpreadKeys, group: str, task: str, key: str, value: Json, version: int
) -> dict[str, Json]:
    """The body of a `result.published` record; a dict and not a model, as there may be a great many."""
    return {
        "request_id": run.request_id,
        "run_id": run.run_id,
        "session_id": run.session_id,
        "status": "running",
        "group": group,
        "task_name": task,
        "result_key": key,
        "version": version,
        "value": value,
    }
