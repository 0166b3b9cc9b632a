"""A turn: one message, the state and settings of its decision, and the effects and events that follow. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from anabranch.core.admissions import log_position
from anabranch.core.context_versions import MAX_VERSIONS, Kind, entry_of, position_of
from anabranch.core.costs import NO_COSTS
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names, session_key
from anabranch.core.policies import Policy
from anabranch.core.retention import ttl_for
from anabranch.core.value_objects import value_object
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.codec import encode
from anabranch.core.wire.events import EventEntry, cause_of
from anabranch.core.wire.messages import Json, Message, Spans
from anabranch.core.wire.results import result_event_id
from anabranch.ports import Outgoing
from anabranch.runtime.ownership.effects import AppendHistory, Effect, Notify, PublishAfter, StorePut
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Group, PublishedValue, Run, Scope, Value
from anabranch_taskgroup.session.task_state import Task


@dataclass(frozen=True, slots=True)
class DecisionConfig:
    """Settings that decisions depend on, in bytes and seconds."""

    names: Names
    inline_limit: int = 65_536
    result_ttl: float = 86_400.0
    member_limit: int = 1_000_000
    window: int = 64
    """Offered chunks of a task without a started member, at most: they may wait for a worker."""
    chunk_limit: int = 500
    chunk_bytes: int = 400_000
    """Bytes of array items in one offer."""
    chunk_seconds: float = 1.0


@value_object
class OfferChunk:
    """Offer a chunk to the workers, in its state at the time of the offer."""

    run_id: str
    group: str
    task: str
    chunk: int


@value_object
class Watch:
    """Watch a key of the session that is set outside the run."""

    run_id: str
    session_id: str
    key: str


@dataclass(frozen=True, slots=True)
class ReofferUnclaimed:
    """Offer each unclaimed chunk of a run again at the next sweep, without the wait between two offers."""

    run_id: str


@value_object
class Unwatch:
    """Stop watching a key for a run."""

    run_id: str
    session_id: str
    key: str


@dataclass(frozen=True, slots=True)
class CountArrays:
    """Read the large arrays of a task's expansion, and append their number of members to the log."""

    run_id: str
    group: str
    task: str


@value_object
class LookUpCache:
    """Read the cache for the members of a chunk, and append what it has to the log."""

    run_id: str
    group: str
    task: str
    chunk: int


@value_object
class StartChild:
    """Request the sub-run of a member."""

    run_id: str
    group: str
    task: str
    index: int


@value_object
class AskChildren:
    """Request again the sub-runs of a step that are not known to exist, and ask about the others."""

    run_id: str
    group: str
    task: str


@dataclass(frozen=True, slots=True)
class TakeChild:
    """Read the results of a sub-run that ended, and append them to the log as the value of its member."""

    run_id: str
    group: str
    task: str
    index: int
    attempt: int
    child_run_id: str
    child_session_id: str
    results: Mapping[str, Json]
    costs: tuple[int, int, int, int] = NO_COSTS
    """What it has used; see `core.costs`."""


@dataclass(frozen=True, slots=True)
class RenderWaits:
    """Read the values that the placeholders of a wait name, fill them in for each member, and append that to the
    log."""

    run_id: str
    group: str
    task: str


@value_object
class RegisterWaits:
    """Register the members of a step from `start` to `stop` with the owners of the events that they wait for."""

    run_id: str
    group: str
    task: str
    start: int
    stop: int


@value_object
class RepeatWishes:
    """Publish the open wishes of a task again, and what it holds, for the owners of the limits."""

    run_id: str
    group: str
    task: str


@dataclass(frozen=True, slots=True)
class ReadItems:
    """Read the next items of a loop from the store, and append them to the log."""

    run_id: str
    group: str
    task: str


@dataclass(frozen=True, slots=True)
class JudgeConditions:
    """Read the large values that conditions of a step compare, and append the outcome to the log. `purpose` says
    which conditions; see `conditions`."""

    run_id: str
    group: str
    task: str
    purpose: str


@dataclass(frozen=True, slots=True)
class ReduceKey:
    """Read the contributions to a key with a policy, and append the reduced value to the log."""

    run_id: str
    key: str


@dataclass(frozen=True, slots=True)
class FoldKey:
    """Fold a run's value of a key with a policy into the session's value.

    `task` is the last writer, `position` orders the change within the session, `submitted` is in seconds since the
    epoch, `ttl` in seconds, `replaces` the run that this one retries. `value` is as it was published: a reference
    where `is_reference`.
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
class ImportOutcomes:
    """Append the outcomes of the run that is retried to the log, then start the tasks of the retry."""

    run_id: str


@dataclass(frozen=True, slots=True)
class WriteDerivedKeys:
    """Write the derived keys of a `separate` join out of its pages in the store, before its plain key.

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
    """The keys under which the pages are stored, where not under `keys`."""
    inline_limit: int = 65_536
    """Of the run."""


@dataclass(frozen=True, slots=True)
class StoreMissing:
    """Store values that the store lacks, by key. `ttl` in seconds."""

    values: tuple[tuple[str, bytes], ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class Halt:
    """Have the workers stop the members of a run, of one group of it, or of one iteration of a task."""

    run_id: str
    session_id: str
    reason: str
    group: str | None = None
    admission: int = 0
    task: str | None = None
    iteration: tuple[int, ...] = ()


@value_object
class StopWork:
    """Have a worker stop work that it has found outside, and that no open member needs."""

    run_id: str
    kind: str
    worker: str
    handles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Have the workers start no further members of a run until its deadline, or (not `paused`) resume it."""

    run_id: str
    session_id: str
    paused: bool
    deadline: float


@dataclass(slots=True)
class Turn:
    """A message at `offset`, written at `at` (seconds since the epoch), against the state of a partition."""

    config: DecisionConfig
    partition: PartitionState
    offset: int
    at: float
    effects: list[Effect] = field(default_factory=list)
    events: list[tuple[Run, EventEntry]] = field(default_factory=list)
    ended: list[tuple[Run, Group, Task | None]] = field(default_factory=list)
    """The tasks that ended in this turn, and (without a task) the groups."""
    known: list[tuple[Run, Scope, str]] = field(default_factory=list)
    """Keys that became known in this turn and whose waiting steps `lifecycle.settle` has not yet checked."""
    undecided: list[tuple[Run, Group, Task]] = field(default_factory=list)
    """Tasks that ended in this turn, of groups that one of them may decide. `lifecycle.settle` checks them."""
    doubtful: list[tuple[Run, Group, Task | None]] = field(default_factory=list)
    """Groups of which a task has ended, and which may lack tasks to complete the number that they need; with the
    loop where it is about its running iteration."""
    ending: list[Run] = field(default_factory=list)
    """Runs with phases of which a group ended in this turn; see `phases`."""
    admitting: list[tuple[Run, Task]] = field(default_factory=list)
    """The tasks of iterations that start in this turn, and that `lifecycle.settle` has not yet admitted."""
    iterated: list[tuple[Run, Group, Task]] = field(default_factory=list)
    """Loops with an iteration whose tasks ended in this turn."""
    stopping: list[tuple[Run, Group, Task]] = field(default_factory=list)
    """Loops whose running iteration is to be cancelled."""
    advancing: list[tuple[Run, Group, Task]] = field(default_factory=list)
    """Tasks of which members have ended, or may start, by the value of another task's member."""
    waking: list[Run] = field(default_factory=list)
    """Runs of which `lifecycle.settle` asks again whether their budgets let members start."""
    exhausted: list[tuple[Run, Group | None]] = field(default_factory=list)
    """Runs, or groups of them, whose budget was exceeded in this turn."""
    iterations: int = 0
    """Iterations that started in this turn."""
    changed: list[tuple[Run, str, Value]] = field(default_factory=list)
    """Keys of the session that runs have set in this turn, where conditions of other runs may read them."""
    changes: int = 0
    """Changes of the session's context in this turn so far."""

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
        iteration: tuple[int, ...] = (),
        **data: Any,
    ) -> None:
        """Add a lifecycle event. An ordinary task has one member, whose index is null: its `spans` are left
        out."""
        if task is not None and task.order.expansion is None:
            spans = None
        if task is not None and task.iteration:
            data["in_loop"] = task.order.in_loop  # readers name the path by it: `loop[3]/task`
        entry = EventEntry(
            type=kind,
            # Rises within the turn, too: readers drop an event whose cause is not above the last one of its
            # source.
            cause=cause_of(self.offset, len(self.events), self.partition.generation),
            time=self.at if time is None else time,
            group=task.group if task else group,
            task=task.order.name if task else None,
            spans=spans,
            attempt=attempt,
            iteration=iteration or (task.iteration if task is not None else ()),
            data=data,
        )
        self.events.append((run, entry))

    def ttl(self, run: Run) -> float:
        """Time to live of the run's values in seconds: until its deadline, and the retention of results after
        it."""
        return ttl_for(run.deadline, self.at, self.config.result_ttl)

    @property
    def position(self) -> int:
        """The position of the message over all generations of the log."""
        return log_position(self.partition.generation, self.offset)

    def put(self, run: Run, key: str, value: bytes) -> None:
        """Write a value of the run to the store."""
        self.effects.append(StorePut(run.session_id, key, value, self.ttl(run)))

    def store_tombstone(self, run_id: str, reason: str, since: int, admission: int) -> None:
        """Write a run's tombstone to the store, for later owners of the session: it ended, or is to stop. `since`
        is the offset of the record that opened the run, or that stopped it."""
        key = self.config.names.in_session(run_id)
        position = log_position(self.partition.generation, since)
        value = dumps({"reason": reason, "offset": position, "admission": admission})
        self.effects.append(StorePut(run_id, key, value, self.config.result_ttl, fenced=False))

    def publish(self, topic: str, key: str | None, message: Message, segments: Sequence[bytes] = ()) -> None:
        """Publish a message once the outcomes of the turn are durable."""
        self.effects.append(PublishAfter(Outgoing(topic, key, encode(message, segments))))

    def record_change(self, run: Run, key: str, kind: Kind, published: PublishedValue, **more: Any) -> None:
        """Append a change of the session's context to its history."""
        name = self.config.names.context(run.session_id)
        # By the offset and the number within the turn, so a repeated turn writes the same entries again.
        position = position_of(self.offset, self.changes)
        self.changes += 1
        entry = entry_of(key, kind, run.run_id, self.at, published.data, published.size, **more)
        ttl = ttl_for(run.deadline, self.at, self.config.result_ttl)
        self.effects.append(AppendHistory(run.session_id, name, position, entry, ttl, MAX_VERSIONS))

    def fold_value(
        self, run: Run, key: str, policy: Policy, published: PublishedValue, task: str | None = None
    ) -> None:
        """Fold a value into the session's value. Its change was recorded just before, and has the position of the
        fold."""
        self.effects.append(
            FoldKey(
                run_id=run.run_id,
                session_id=run.session_id,
                key=key,
                policy=policy,
                value=published.document,
                task=task,
                position=position_of(self.offset, self.changes - 1),
                version=self.offset,
                submitted=run.submitted_at,
                ttl=self.ttl(run),
                replaces=run.retry_of,
                is_reference=published.is_reference,
                inline_limit=run.inline_limit,
            )
        )

    def set_context(self, run: Run, key: str, published: PublishedValue) -> None:
        """Publish a value of the context that the run was submitted with."""
        shared = run.shared.get(key)
        if shared is None:
            self.record_change(run, key, "context", published)
            self.publish_value(run, key, published, kind="context.set")
        else:
            self.record_change(run, key, "context", published, **merge_details(run, shared.policy))
            self.fold_value(run, key, shared.policy, published)

    def publish_value(
        self, run: Run, key: str, published: PublishedValue, *, kind: str, task: str | None = None
    ) -> None:
        """SET a value of the session under its public name, then PUBLISH a notification of it."""
        name = session_key(run.session_id, key)
        ttl = ttl_for(run.deadline, self.at, self.config.result_ttl)
        self.effects.append(StorePut(run.session_id, name, published.data, ttl))
        if self.partition.condition_runs:
            self.changed.append((run, key, published.value))
        message = channel_message(kind, task, key, self.offset, run.run_id, published.data)
        self.effects.append(Notify(name, message))

    def publish_result(self, run: Run, group: Group, task: Task, key: str, published: PublishedValue) -> None:
        """Publish a result: the value in the session, and a record on the results topic."""
        name = task.order.name
        self.publish_value(run, key, published, kind="result.published", task=name)
        self.publish_record(run, key, result_body(run, group.name, name, key, published.document, self.offset))

    def publish_record(self, run: Run, key: str, body: Mapping[str, Json]) -> None:
        """Publish a record on the results topic."""
        headers = cloud_event_headers(
            "result.published",
            result_event_id(run.run_id, key),
            self.at,
            subject=run.run_id,
            traceparent=run.traceparent,
        )
        self.effects.append(
            PublishAfter(Outgoing(self.config.names.results, run.run_id, dumps(body), headers=headers))
        )


def merge_details(run: Run, policy: Policy) -> dict[str, Any]:
    """The fields of a change that only keys with a policy have."""
    return {"policy": policy, "submitted": run.submitted_at, "replaces": run.retry_of}


MAX_NOTIFIED_BYTES = 4_096
"""A notification contains the value up to this size."""


def channel_message(kind: str, task: str | None, key: str, version: int, run_id: str, data: bytes) -> bytes:
    """The notification on the channel of a key whose value, as JSON, is `data`."""
    note = {"type": kind, "task_name": task, "result_key": key, "version": version, "run_id": run_id}
    if len(data) > MAX_NOTIFIED_BYTES:
        return dumps(note)
    # The value is inserted as bytes, so that it is not decoded and encoded again.
    return orjson.dumps(note)[:-1] + b',"value":' + data + b"}"


def result_body(
    run: Run | WriteDerivedKeys, group: str, task: str, key: str, value: Json, version: int
) -> dict[str, Json]:
    """The body of a `result.published` record; a dict and not a model, since a join may publish thousands."""
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
