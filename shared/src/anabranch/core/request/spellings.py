"""The spellings of a request that lowering turns into plain groups, as models: the source of their JSON Schema.

They are never validated with: `lowering` reads documents, tolerantly, and what it makes is validated.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from anabranch.core.conditions import Condition
from anabranch.core.request.document import Document
from anabranch.core.request.fields import Count, Json, Key, Name, Timeout
from anabranch.core.request.flow import Loop, OnNoMatch
from anabranch.core.request.models import TaskGroup, TaskSpec


class CaseOfTasks(Document):
    """A case of a switch, with the tasks or groups that run if it is chosen."""

    when: Condition
    tasks: tuple[TaskSpec, ...] | None = None
    groups: tuple[GroupItem | Name, ...] | None = None
    """Groups, or names of groups of the request."""


class DefaultOfTasks(Document):
    """What runs if no case of a switch is true."""

    tasks: tuple[TaskSpec, ...] | None = None
    groups: tuple[GroupItem | Name, ...] | None = None


class SwitchOfTasks(Document):
    """The first case whose condition is true wins; the tasks of the others are skipped."""

    cases: tuple[CaseOfTasks, ...] = Field(min_length=1)
    default: DefaultOfTasks | tuple[Json, ...] | None = None
    on_no_match: OnNoMatch = "fail"


class SwitchItem(Document):
    """An item of `task_groups` that chooses between tasks or groups."""

    name: Name | None = None
    """Name of the group that it becomes. Default: `switch`."""
    switch: SwitchOfTasks
    dependencies: tuple[Key, ...] = ()
    timeout: Timeout | None = None
    max_concurrency: Count | None = None
    fail_fast: bool = False
    when: Condition = None
    sequential: bool = False
    loop: Loop | None = None


GroupItem: TypeAlias = TaskGroup | SwitchItem


class TaskStep(TaskSpec):
    """A step that is a task: as a task, but it may have no name."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        handler.resolve_ref_schema(schema).pop("required", None)
        return schema


class ParallelStep(Document):
    """Steps that run at the same time."""

    name: Name | None = None
    parallel: tuple[Step, ...]


class SequentialStep(Document):
    """Steps that run one after another."""

    name: Name | None = None
    sequential: tuple[Step, ...]


class IfStep(Document):
    """Runs the one list of steps or the other."""

    name: Name | None = None
    condition: Condition = Field(alias="if")
    then: tuple[Step, ...] | None = None
    otherwise: tuple[Step, ...] | None = Field(default=None, alias="else")


class CaseOfSteps(Document):
    """A case of a switch in steps."""

    when: Condition
    steps: tuple[Step, ...]


class SwitchOfSteps(Document):
    """The first case whose condition is true wins."""

    cases: tuple[CaseOfSteps, ...] = Field(min_length=1)
    default: tuple[Step, ...] | None = None
    on_no_match: OnNoMatch = "fail"


class SwitchStep(Document):
    """Chooses one of several lists of steps."""

    name: Name | None = None
    switch: SwitchOfSteps


class LoopOfSteps(Loop):
    """A loop with the steps that it repeats."""

    name: Name | None = None
    """The same as the name of the step."""
    steps: tuple[Step, ...] = Field(min_length=1)


class LoopStep(Document):
    """Repeats steps."""

    name: Name | None = None
    loop: LoopOfSteps


Step: TypeAlias = TaskStep | ParallelStep | SequentialStep | IfStep | SwitchStep | LoopStep
Steps: TypeAlias = Annotated[tuple[Step, ...], Field(min_length=1)]
_MODELS: tuple[type[Document], ...] = (
    CaseOfTasks,
    DefaultOfTasks,
    SwitchOfTasks,
    SwitchItem,
    ParallelStep,
    SequentialStep,
    IfStep,
    CaseOfSteps,
    SwitchOfSteps,
    SwitchStep,
    LoopOfSteps,
    LoopStep,
)
for _model in _MODELS:
    _model.model_rebuild()


class _Spelled(Document):
    """Fields of a request."""

    steps: Steps | None = None
    task_groups: tuple[GroupItem, ...] = Field(min_length=1)


class _SpelledGroup(Document):
    """Fields of a group."""

    when: Condition = None
    """The tasks of the group run if this condition is true."""
    sequential: bool = False
    """Its tasks run one after another, until one fails."""
    loop: Loop | None = None
    """Its tasks are repeated."""


def fields_of_request() -> CoreSchema:
    """The core schema of the fields of a request as users write them."""
    return _Spelled.__pydantic_core_schema__


def fields_of_group() -> CoreSchema:
    """The core schema of fields of a group that become steps."""
    return _SpelledGroup.__pydantic_core_schema__
