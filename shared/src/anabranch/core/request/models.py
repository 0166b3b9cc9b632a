"""The request as users write it: the models that the schema, the API and the services share.

Structure only: fields, their types, and one canonical spelling of each value. The request as a whole
(dependencies, cycles, agents, limits) is validated in ``admission``. Null means absent in every optional field,
because Kafka producers in other languages and empty YAML values write null.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import methodcaller
from typing import Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from anabranch.core.errors import Code
from anabranch.core.policies import Policy
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.document import Document as Document
from anabranch.core.request.fields import (
    ArraySource,
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
    Project,
    ResultKey,
    Scalar,
    SessionId,
    Strategy,
    Timeout,
    Tolerance,
)

RESERVED_IN_REQUEST = frozenset({"priority", "deadline", "not_before", "steps"})
RESERVED_IN_TASK = frozenset({"pool"})

DAY = 86_400.0


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


class TaskSpec(Document):
    """One task: its agent, inputs, dependencies and results."""

    name: Name
    agent: Name
    """Also accepted: ``agent_class``."""
    result_keys: tuple[ResultKey, ...] = Field(min_length=1)
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
    retry: RetryPolicy | None = None
    max_deliveries: Count = 5
    timeout: Timeout | None = None
    tolerated_failures: Tolerance = 0
    on_failure: OnFailure = "fail"
    """What a failed member does to its task's join: ``fail`` lets the join go on without it, ``hold`` keeps the
    join open until the member is redriven or dismissed, or the run times out."""
    max_concurrency: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return _mark_optional(_rename_agent_class(dict(data)))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        target = handler.resolve_ref_schema(schema)
        agent = target["properties"]["agent"]
        target["properties"]["agent_class"] = {**agent, "title": "Agent Class"}
        target["required"] = [name for name in target["required"] if name != "agent"]
        target["oneOf"] = [{"required": ["agent"]}, {"required": ["agent_class"]}]
        return schema


class TaskGroup(Document):
    """A named group of tasks. Its ``dependencies`` are added to each of its tasks."""

    name: Name
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    dependencies: tuple[Key, ...] = ()
    """Result keys; ``"key?"`` is an optional one, and stays as written."""
    timeout: Timeout | None = None
    max_concurrency: Count | None = None


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
    task_groups: tuple[TaskGroup, ...] = Field(min_length=1)


ControlType = Literal["cancel", "pause", "resume", "redrive", "dismiss", "retry", "subscribe", "unsubscribe"]


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
    """Of ``subscribe`` and ``unsubscribe``: the subscribing project. The run or session has to belong to it."""
    group: Name | None = None
    """Of ``redrive`` and ``dismiss``: the group of the held members; without it all groups."""
    task: Name | None = None
    indexes: tuple[Index, ...] | None = Field(default=None, min_length=1)
    """Members of ``task``, counted from 0."""
    command_id: Key | None = None
    """Of ``redrive`` and ``dismiss``: a repeated id acts once. Default: the record's position on the log."""
    failed: bool = False
    """Required by ``retry``: run tasks without a result again, and take over all other results."""
    new_request_id: Key | None = None
    """Of ``retry``: the new run's request id. Default: derived from the record's position on the log."""

    @model_validator(mode="after")
    def _has_subject(self) -> Self:
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
        if self.type == "retry" and not self.failed:
            raise PydanticCustomError(Code.SCHEMA.value, "retry needs failed: true, the only supported mode")
        return self


def split_optional(dependency: str) -> tuple[str, bool]:
    """Split a dependency as written into its key and whether it is optional: ``"a?"`` -> ``("a", True)``."""
    if len(dependency) > 1 and dependency.endswith("?"):
        return dependency[:-1], True
    return dependency, False


def _rename_agent_class(data: dict[str, Any]) -> dict[str, Any]:
    if data.get("agent_class") is None:
        data.pop("agent_class", None)
    elif data.get("agent") is None or data["agent"] == data["agent_class"]:
        data["agent"] = data.pop("agent_class")
    # Two different names both stay: the schema check refuses `agent_class` with a message of its own.
    return data


def _mark_optional(data: dict[str, Any]) -> dict[str, Any]:
    """Move the ``?`` of dependencies into ``optional_dependencies``; anything but a list of strings stays."""
    optional = data.get("optional_dependencies") or ()
    if not _are_strings(optional):
        return data
    marked = [split_optional(key)[0] for key in optional]
    for name in ("dependencies", "external_dependencies"):
        keys = data.get(name)
        if keys and _are_strings(keys):
            if any(map(_ENDS_IN_MARK, keys)):
                split = [split_optional(key) for key in keys]
                keys = [key for key, _ in split]
                marked += [key for key, is_optional in split if is_optional]
            data[name] = _unique(keys)
    if marked:
        data["optional_dependencies"] = _unique(marked)
    return data


_TEXT = frozenset({str})
_ENDS_IN_MARK = methodcaller("endswith", "?")


def _are_strings(value: object) -> bool:
    if not isinstance(value, (list, tuple)):
        return False
    # Fast path: the types of a long list are compared without a Python call for each item.
    return set(map(type, value)) <= _TEXT or all(isinstance(item, str) for item in value)


def _unique(keys: Any) -> list[str]:
    return list(dict.fromkeys(keys))
