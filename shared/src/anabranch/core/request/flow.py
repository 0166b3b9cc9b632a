"""The parts of a request that control the flow: conditions, branches, loops, waits, sub-runs, compensation.

Structure only, as in `models`. What each part does is decided by the session's owner; the rules are in
docs/reference. `switch`, `branch`, `follows` and `in_loop` of a task are the lowered form of other spellings, see
`lowering`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from anabranch.core.conditions import Condition
from anabranch.core.errors import Code
from anabranch.core.request.document import Document
from anabranch.core.request.fields import (
    Count,
    Duration,
    DurationOrTemplate,
    EventKey,
    Json,
    Key,
    Name,
    ResultKey,
    TimeOrTemplate,
    Timeout,
)

OnNoMatch = Literal["fail", "skip"]
OnTimeout = Literal["fail", "skip", "value"]
MAX_ITERATIONS, USUAL_ITERATIONS = 1_000_000, 100
LOOP_NAMES = ("iteration", "item", "state", "last")
"""What templates and conditions of a loop body see of their loop."""


class Switch(Document):
    """Chooses the first case whose condition is true, once all of their fields are settled.

    The value of a task with this field is the number of the case; with `has_default` it is `len(cases)` if none is
    true. Without a default it fails with NoCaseMatched, or (`skip`) chooses nothing.
    """

    cases: tuple[Condition, ...] = Field(min_length=1)
    has_default: bool = False
    on_no_match: OnNoMatch = "fail"
    reason: Literal["branch", "condition"] = "branch"
    """The reason that tasks of the other cases are skipped for."""


class Branch(Document):
    """The task runs only if the task `switch` (of the same group, or as group/task) has chosen `case`."""

    switch: str
    case: Annotated[int, Field(strict=True, ge=0)]


class Loop(Document):
    """Repeats the tasks that have `in_loop` with the name of this one, one iteration at a time."""

    each: Key | list[Json] | None = None
    """A key whose value is a list, or a list."""
    while_: Condition | None = Field(default=None, alias="while")
    until: Condition | None = None
    state: dict[ResultKey, Json] = Field(default_factory=dict)
    """Names that keep a value from one iteration to the next, with their first values, templates as ``inputs``."""
    max_iterations: Annotated[int, Field(strict=True, ge=1, le=MAX_ITERATIONS)] | None = None
    """Default: 100; with ``each`` the number of its items, up to 1,000,000."""
    max_duration: Timeout | None = None
    delay: Duration = 0.0
    on_limit: Literal["fail", "complete"] = "fail"
    on_failure: Literal["fail", "continue"] = "fail"
    collect: Literal["last", "append", "none"] = "last"

    @property
    def limit(self) -> int:
        """The largest number of iterations."""
        if self.max_iterations is not None:
            return self.max_iterations
        return USUAL_ITERATIONS if self.each is None else MAX_ITERATIONS

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.while_ is not None and self.until is not None:
            raise refusal("has both `while` and `until`", "keep one of them; `!(...)` in it says the opposite")
        if self.each is None and self.while_ is None and self.until is None:
            raise refusal("has no end", "give it one of `each`, `while`, `until`")
        return self


class EventWait(Document):
    """A published event: its name, its correlation key, and a condition over its data."""

    name: Name
    key: EventKey = ""
    when: Condition | None = None
    deliver: Literal["all", "one"] = "all"


class Approval(Document):
    """A decision by a person. `form` is the JSON Schema of the decision's data."""

    subject: str = ""
    body: Json = None
    options: tuple[str, ...] = Field(default=("approve", "reject"), min_length=1)
    form: dict[str, Json] | None = None
    assignees: tuple[str, ...] = ()
    required: Count = 1
    forbid_requester: bool = False
    on_reject: Literal["fail", "skip", "value"] = "fail"

    @field_validator("form")
    @classmethod
    def _is_schema(cls, form: dict[str, Json] | None) -> dict[str, Json] | None:
        return _checked_schema(form)


class Wait(Document):
    """Waits for exactly one of: a duration, a time, a condition, an event, a signal, an approval."""

    for_: DurationOrTemplate | None = Field(default=None, alias="for")
    until: TimeOrTemplate | None = None
    """An RFC 3339 timestamp, or a placeholder of one."""
    condition: Condition | None = None
    event: EventWait | None = None
    signal: Name | None = None
    approval: Approval | None = None
    timeout: Timeout | None = None
    on_timeout: OnTimeout = "fail"
    value: Json = None
    """The value on a timeout with `on_timeout: value`."""
    payload_schema: dict[str, Json] | None = Field(default=None, alias="schema")
    collect: Count = 1

    @field_validator("payload_schema")
    @classmethod
    def _is_schema(cls, schema: dict[str, Json] | None) -> dict[str, Json] | None:
        return _checked_schema(schema)

    @model_validator(mode="after")
    def _waits_for_one_thing(self) -> Self:
        kinds = (self.for_, self.until, self.condition, self.event, self.signal, self.approval)
        given = [name for name, kind in zip(WAIT_KINDS, kinds, strict=True) if kind is not None]
        if len(given) != 1:
            problem = f"has both {' and '.join(f'`{name}`' for name in given)}" if given else "waits for nothing"
            raise refusal(problem, f"give it one of {', '.join(WAIT_KINDS)}")
        if self.on_timeout != "fail" and self.timeout is None:
            raise refusal("has `on_timeout` without `timeout`", "say how long it waits: `timeout: 1h`")
        return self


WAIT_KINDS = ("for", "until", "condition", "event", "signal", "approval")


class SubRun(Document):
    """Starts a run of its own, and takes its results as the value."""

    request: dict[str, Json] | None = None
    definition: str | None = Field(default=None, min_length=1)
    """`name` or `name@version`."""
    context: dict[Key, Json] = Field(default_factory=dict)
    session: Literal["own", "shared"] = "own"
    on_parent_end: Literal["cancel", "abandon"] = "cancel"
    outputs: tuple[ResultKey, ...] | None = None
    """The result keys of the child that are taken over; None: all."""

    @model_validator(mode="after")
    def _starts_one_thing(self) -> Self:
        if (self.request is None) == (self.definition is None):
            problem = "starts nothing" if self.request is None else "has both `request` and `definition`"
            raise refusal(problem, "give it one of request, definition")
        return self


def _checked_schema(schema: dict[str, Json] | None) -> dict[str, Json] | None:
    if schema:
        # Here, because the library takes long to import, and most requests have no schema.
        from anabranch.core.waits.payload_schemas import schema_problem

        if (problem := schema_problem(schema)) is not None:
            raise refusal(f"is no JSON Schema that can be used: {problem}", "no payload would fit it")
    return schema


def refusal(reason: str, hint: str = "") -> PydanticCustomError:
    """The error of a validator; `schema_errors` makes a Problem of it."""
    return PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": reason, "hint": hint})
