"""The request as users write it: the models that the schema, the API and the services share.

Structure only: fields, their types, and one canonical spelling of each value. The request as a whole
(dependencies, cycles, agents, limits) is validated in ``admission``. Null means absent in every optional field,
because Kafka producers in other languages and empty YAML values write null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, GetJsonSchemaHandler, Tag, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from anabranch.core.conditions import Condition
from anabranch.core.errors import Code
from anabranch.core.event_addresses import DEFAULT_TTL, correlation_key_problem
from anabranch.core.json_documents import is_deep
from anabranch.core.policies import Policy
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.budget_fields import Amounts
from anabranch.core.request.cache_fields import Cache
from anabranch.core.request.document import Document as Document
from anabranch.core.request.fields import (
    Agent,
    ArraySource,
    CorrelationKey,
    Count,
    Duration,
    ExpansionType,
    Index,
    Jitter,
    Json,
    Key,
    Name,
    OnEmpty,
    OnFailure,
    OutputFormat,
    Pool,
    Priority,
    Project,
    ResultKey,
    Scalar,
    SessionId,
    Strategy,
    Timeout,
    Timestamp,
    Tolerance,
)
from anabranch.core.request.flow import Branch, Loop, SubRun, Switch, Wait, refusal
from anabranch.core.request.limits import Concurrency, LimitKey, RateLimit
from anabranch.core.request.lowering import is_spelled, lowered
from anabranch.core.request.resources import Requires
from anabranch.core.request.task_spelling import KINDS, MADE_UP, one_spelling
from anabranch.core.request.task_spelling import split_optional as split_optional

DAY = 86_400.0
MAX_BY, MAX_REASON = 255, 1_000
"""Characters of the name of who gives a command, and of its reason."""
FINALLY: Final = "finally"
"""The name of the group of the tasks in ``finally``."""
COMPENSATE: Final = "compensate"
"""The name of the group of compensations."""

TaskKind = Literal["task", "wait", "run", "switch", "loop"]


class RetryPolicy(Document):
    """When a failed attempt is retried. Fields that are set here override those of the agent's declaration."""

    strategy: Strategy = "none"
    max_attempts: Count | None = None
    """Maximum number of attempts, including the first. Default: 3; under the strategy ``none``, where only a
    ``RetryLater`` of the agent leads to another attempt, no limit but the timeouts."""
    delay: Duration = 1.0
    max_delay: Timeout | None = None
    jitter: Jitter = 0.0
    """Maximum fraction by which a delay is shortened at random: 0 never, 1 down to no delay."""
    non_retryable: tuple[str, ...] = ()
    """Names of exception types that are not retried."""
    errors: tuple[str, ...] = Field(default=("*",), min_length=1)
    """Names of exception types that this policy is for, ``*`` for all."""


class Sequence(Document):
    """Numbers from ``start`` to ``end`` inclusive, by ``step``; a negative step counts down.

    The default step is 1, or -1 if ``end`` is below ``start``.
    """

    start: int | float = 0
    end: int | float
    step: int | float | None = None

    @property
    def stride(self) -> int | float:
        """The step, with its default."""
        if self.step is None:
            return -1 if self.end < self.start else 1
        return self.step

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.step == 0:
            raise PydanticCustomError(Code.SCHEMA.value, "step is 0, so the sequence would never end")
        return self


class TransformRules(Document):
    """The rules by which a ``custom`` expansion combines its arrays. Data only: no rule evaluates code."""

    combine: tuple[str, ...] | None = None
    zip: tuple[str, ...] | None = None
    sequence: dict[Key, Sequence] | None = None
    filter: dict[str, Scalar] | None = None
    chunk: Count | dict[str, Count] | None = None
    distinct: bool | str | tuple[str, ...] | None = None


class Expansion(Document):
    """``expansion_config``: one task becomes one member for each item or combination."""

    type: ExpansionType
    array_mapping: dict[Key, ArraySource] = Field(default_factory=dict)
    identifiers: dict[Key, str] = Field(default_factory=dict)
    output_format: OutputFormat = "merge"
    transform_rules: TransformRules | None = None
    include: tuple[dict[str, Json], ...] = ()
    exclude: tuple[dict[str, Json], ...] = ()
    on_empty: OnEmpty = "complete"


def _policy_or_list(value: object) -> str:
    return "list" if isinstance(value, (list, tuple)) else "policy"


Retry = Annotated[
    # By the type of the value, so that an error is that of the one form which is meant.
    Annotated[RetryPolicy, Tag("policy")] | Annotated[tuple[RetryPolicy, ...], Field(min_length=1), Tag("list")],
    Discriminator(_policy_or_list),
]


class Compensation(Document):
    """What undoes a completed task if its run ends failed, cancelled or timed out."""

    agent: Name
    inputs: Json = None
    """As the ``inputs`` of a task. They also see the task's own results."""
    retry: RetryPolicy | None = None


class TaskSpec(Document):
    """One task: what it does (its agent, or another kind of step), inputs, dependencies and results."""

    name: Name
    agent: Agent = ""
    """Also accepted: ``agent_class``. A task has exactly one of ``agent``, ``wait``, ``run``, and in the lowered
    form of a request ``switch`` and ``loop``."""
    result_keys: tuple[ResultKey, ...] = Field(default=(), min_length=1)
    """Default: the task's name."""
    message_template: Json = None
    """Text or nested JSON. Placeholders are replaced by text at any depth, even if a string is exactly one
    placeholder."""
    shared_instructions: Json = None
    """As ``message_template``."""
    inputs: Json = None
    """Any JSON. A string that is exactly one placeholder becomes the value with its type."""
    tools: tuple[str, ...] = ()
    dependencies: tuple[Key, ...] = ()
    """Result keys. ``"key?"`` stands for ``"key"`` that is also listed in ``optional_dependencies``."""
    optional_dependencies: tuple[Key, ...] = ()
    external_dependencies: tuple[ResultKey, ...] = ()
    optional_result_keys: tuple[ResultKey, ...] = ()
    expansion_config: Expansion | None = None
    retry: Retry | None = None
    """One policy, or a list: the first one whose ``errors`` name the exception type applies."""
    max_deliveries: Count = 5
    timeout: Timeout | None = None
    tolerated_failures: Tolerance = 0
    on_failure: OnFailure = "fail"
    """What a failed member does to its task's join: ``fail`` lets the join go on without it, ``hold`` keeps the
    join open until the member is redriven or dismissed, or the run times out."""
    max_concurrency: Count | None = None
    concurrency: Concurrency | None = None
    """A limit on members that run at once, shared with all tasks of the project that name the same key."""
    rate_limit: RateLimit | None = None
    """A limit on members that start in a time, shared with all tasks of the project that name the same key."""
    when: Condition | None = None
    """The task runs if this condition is true; if it is false, the task is skipped. Its fields are optional
    dependencies."""
    after: tuple[str, ...] = ()
    """Tasks that have to complete first: ``task`` of the same group, or ``group/task``. ``"task?"`` waits for any
    end of it."""
    follows: tuple[str, ...] = ()
    """Tasks whose end this task waits for, and that may be skipped but not fail. Written by lowering of
    ``sequential`` and ``steps``."""
    error_key: ResultKey | None = None
    """A key that has a value exactly if the task fails for good: the failure is handled, and does not fail the
    run."""
    branch: Branch | None = None
    in_loop: Name | None = None
    """The task with ``loop``, of the same group, that repeats this one."""
    wait: Wait | None = None
    run: SubRun | None = None
    switch: Switch | None = None
    loop: Loop | None = None
    compensate: Compensation | None = None
    budget: Amounts | None = None
    """The most that all members of the task may use, in all iterations."""
    estimate: Amounts | None = None
    """What one member will use: reserved of the budgets before it starts."""
    requires: Requires | None = None
    """What each member requires of its worker; only of a task with an agent."""
    priority: Priority | None = None
    """The level at which its members are offered to workers. Default: that of the request."""
    pool: Pool | None = None
    """The pool of workers that run its members. Default: that of the request."""
    fairness_key: Key | None = None
    """Tasks of one level share the workers fairly among their keys. Default: that of the request."""
    cache: Cache | None = None
    """Members take over the values of completed members with the same key."""

    @property
    def kind(self) -> TaskKind:
        """The kind of step, as in orders: ``task`` if it has an agent."""
        if self.agent:
            return "task"
        if self.wait is not None:
            return "wait"
        return "run" if self.run is not None else "switch" if self.switch is not None else "loop"

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, data: Any) -> Any:
        return one_spelling(dict(data)) if isinstance(data, Mapping) else data

    @classmethod
    def _may_omit(cls, name: object) -> bool:
        # A null agent is an error, if the task is of no other kind: it is not a task of no kind.
        return name != "agent" and super()._may_omit(name)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        target = handler.resolve_ref_schema(schema)
        target["properties"]["agent"].pop("default", None)
        target["properties"]["agent_class"] = {**target["properties"]["agent"], "title": "Agent Class"}
        target["properties"]["result_keys"].pop("default", None)
        target["oneOf"] = [{"required": [kind]} for kind in ("agent_class", *KINDS)]
        return schema


class TaskGroup(Document):
    """A named group of tasks. Its ``dependencies`` are added to each of its tasks."""

    name: Name
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    dependencies: tuple[Key, ...] = ()
    """Result keys; ``"key?"`` is an optional one, and stays as written."""
    timeout: Timeout | None = None
    max_concurrency: Count | None = None
    fail_fast: bool = False
    """The first task that fails cancels the others of the group. Default: they go on."""
    race: bool = False
    """The first completed task cancels the others (the first member, if the group has one task)."""
    need: Count | None = None
    """As ``race``, after this number of completed tasks or members."""
    budget: Amounts | None = None
    """The most that all tasks of the group may use."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.need is not None and self.need > (most := self._most_completed()):
            raise refusal(f"`need` is {self.need}, and only {most} can complete", "lower `need`, or leave it out")
        return self

    def _most_completed(self) -> float:
        """How many tasks can complete, or members if the group has one task."""
        counted = [task for task in self.tasks if task.kind not in MADE_UP]
        return math.inf if len(counted) == 1 and counted[0].expansion_config is not None else len(counted)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        from anabranch.core.request import spellings  # which imports this

        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        spelled = handler.resolve_ref_schema(handler(spellings.fields_of_group()))
        handler.resolve_ref_schema(schema)["properties"] |= spelled["properties"]
        return schema


class Request(Document):
    """What a user submits: groups of tasks, connected by result keys."""

    request_id: Key | None = None
    session_id: SessionId | None = None
    project: Project = DEFAULT_PROJECT
    """Project that owns the run: the gateway shows each project its own runs. A session belongs to one project."""
    name: Name | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    context: dict[Key, Json] = Field(default_factory=dict)
    context_policies: dict[Key, Policy] = Field(default_factory=dict)
    """How several values written to one key are merged. A key with a policy may have several producers."""
    timeout: Timeout = DAY
    not_before: Timestamp | None = None
    """The run is admitted at once, and starts at this time. Its ``timeout`` begins then."""
    deadline: Timestamp | None = None
    """The run times out at this time, or after its ``timeout`` if that is earlier."""
    budget: Amounts | None = None
    """The most that the run may use, with its sub-runs."""
    priority: Priority | None = None
    """The level at which members are offered to workers. Default: that of the parent of a sub-run, else
    ``normal``."""
    pool: Pool | None = None
    """The pool of workers that run members. Default: that of the parent of a sub-run, else ``default``."""
    fairness_key: LimitKey | None = None
    """Runs of one level share the workers fairly among their keys, which may have placeholders of the context.
    Default: that of the parent of a sub-run, else the project."""
    concurrency: Concurrency | None = None
    """A limit on runs that have started and not ended, shared with all requests of the project that name the same
    key."""
    task_groups: tuple[TaskGroup, ...] = Field(min_length=1)
    finally_: tuple[TaskSpec, ...] = Field(default=(), alias="finally")
    """Tasks that run once all others have ended, whatever happened."""

    @model_validator(mode="before")
    @classmethod
    def _lowered(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not is_spelled(data):
            return data
        found = lowered(data)
        for _, path, message, hint in found.problems.found:
            raise refusal(f"at /{'/'.join(map(str, path))}: {message}", hint)
        return found.request

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        from anabranch.core.request import spellings  # which imports this

        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        spelled = handler.resolve_ref_schema(handler(spellings.fields_of_request()))
        target = handler.resolve_ref_schema(schema)
        target["properties"] |= spelled["properties"]
        del target["required"]
        target["oneOf"] = [{"required": ["task_groups"]}, {"required": ["steps"]}]
        return schema


ControlType = Literal[
    "cancel",
    "terminate",
    "pause",
    "resume",
    "redrive",
    "dismiss",
    "retry",
    "fork",
    "signal",
    "event",
    "approve",
    "breaker",
    "subscribe",
    "unsubscribe",
]


class ControlRecord(Document):
    """A record on the requests topic that acts on a run or on a subscription, instead of starting a run."""

    type: ControlType
    run_id: Key | None = None
    request_id: Key | None = None
    session_id: SessionId | None = None
    types: tuple[str, ...] = ()
    """Event types to forward, ``run.*`` for all of a kind; empty for every type."""
    channel: str | None = Field(default=None, min_length=1)
    """Of ``subscribe``: the Redis channel, whose name begins with the prefix of the installation and ``sub:``."""
    project: Project | None = None
    """Of ``subscribe`` and ``unsubscribe``: the subscribing project. The run or session has to belong to it. Of
    ``event``: the project whose tasks get it."""
    group: Name | None = None
    """Of ``redrive`` and ``dismiss``: the group of the held members; without it all groups. Of ``approve``: the
    group of the task; without it the first one with an open task of the name."""
    task: Name | None = None
    indexes: tuple[Index, ...] | None = Field(default=None, min_length=1)
    """Members of ``task``, counted from 0."""
    command_id: Key | None = None
    """Of ``redrive`` and ``dismiss``: a repeated id acts once. Default: the record's position on the log."""
    by: str | None = Field(default=None, max_length=MAX_BY)
    """Who gives the command, and ``reason``: why. Shown in the run's events and view."""
    reason: str | None = Field(default=None, max_length=MAX_REASON)
    failed: bool = False
    """Required by ``retry``: run tasks without a result again, and take over all other results."""
    new_request_id: Key | None = None
    """Of ``retry`` and ``fork``: the new run's request id. Default: derived from the record's position."""
    from_: tuple[Key, ...] | Key = Field(default=(), alias="from")
    """Of ``fork``: the tasks to run again, as ``task`` or ``group/task``."""
    set: dict[Key, Json] = Field(default_factory=dict)
    """Of ``fork``: values that replace those of the context."""
    request: dict[str, Json] | None = None
    """Of ``fork``: a request in place of that of the run."""
    name: Key | None = None
    """Of ``signal`` and ``event``: the name that a task waits for."""
    value: Json = None
    """Of ``signal``: the value of the task that takes the signal."""
    signal_id: Key | None = None
    """Of ``signal``: a repeated id counts once. Default: the record's position on the log."""
    index: Index | None = None
    """Of ``approve``: the member of ``task``, counted from 0; without it the first that waits."""
    iteration: tuple[Index, ...] | None = None
    """Of ``approve``, ``redrive`` and ``dismiss``: the iterations of the loops around ``task``; without it the
    running ones."""
    decision: Key | None = None
    """Of ``approve``: one of the options of the task, such as ``approve`` or ``reject``."""
    data: Json = None
    """Of ``approve``: what was filled into the form of the task. Of ``event``: its data."""
    key: CorrelationKey = ""
    """Of ``event``: the correlation key; tasks that wait for it get the event."""
    action: Literal["open", "close"] | None = None
    """Of ``breaker``: what becomes of the breaker of the agent ``name``."""
    id: Key | None = None
    """Of ``event``: a repeated id is the same event, for seven days. Default: the record's position on the log."""
    ttl: Timeout = DEFAULT_TTL
    """Of ``event``: how long it is kept for tasks that wait later, at most for the retention of the topics."""
    deliver: Literal["all", "one"] = "all"
    """Of ``event``: with ``one``, one run gets it, the one that has waited longest."""
    comment: str = ""
    """Of ``approve``: why, as ``reason`` of other commands; ``by`` is the person who decides."""
    decision_id: Key | None = None
    """Of ``approve``: a repeated id counts once. Default: the record's position on the log."""

    @field_validator("value", "data")
    @classmethod
    def _is_shallow(cls, value: Json) -> Json:
        # As each value of a run: deeper ones could not be written any more once they are in a record.
        if isinstance(value, dict | list) and is_deep(value):
            raise PydanticCustomError(Code.TOO_DEEP.value, "it is nested over 200 levels deep")
        return value

    @model_validator(mode="after")
    def _has_subject(self) -> Self:
        if self.type == "event":
            self._check_event()
            return self
        if self.type == "breaker":
            if self.name is None or self.action is None:
                raise PydanticCustomError(
                    Code.SCHEMA.value, "name or action is missing: the agent, and open or close"
                )
            return self
        subscribes = self.type in ("subscribe", "unsubscribe")
        if not (self.run_id or self.request_id or (subscribes and self.session_id)):
            wanted = "session_id, run_id or request_id" if subscribes else "run_id or request_id"
            raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": f"{wanted} is missing"})
        if self.type == "subscribe" and not self.channel:
            raise PydanticCustomError(
                Code.SCHEMA.value, "channel is missing: name the Redis channel to forward events to"
            )
        if self.indexes is not None and self.task is None:
            raise PydanticCustomError(Code.SCHEMA.value, "indexes needs task: name the task of these members")
        if self.type == "signal" and self.name is None:
            raise PydanticCustomError(Code.SCHEMA.value, "name is missing: the name that a task waits for")
        if self.type == "approve" and not (self.task and self.decision):
            raise PydanticCustomError(
                Code.SCHEMA.value, "task and decision are missing: name the task that waits, and what was decided"
            )
        if self.type == "retry" and not self.failed:
            raise PydanticCustomError(Code.SCHEMA.value, "retry needs failed: true, the only supported mode")
        if self.type == "fork" and not (self.from_ or self.set or self.request):
            raise PydanticCustomError(Code.SCHEMA.value, "fork needs from, set or request: what is run again")
        return self

    def _check_event(self) -> None:
        if self.name is None:
            raise PydanticCustomError(Code.SCHEMA.value, "name is missing: the name that tasks wait for")
        if (problem := correlation_key_problem(self.key)) is not None:
            raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": problem})
