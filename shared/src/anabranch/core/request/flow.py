"""The parts of a request that control the flow: conditions, branches, loops, waits, sub-runs, compensation.

Structure only, as in `models`. What each part does is decided by the session's owner; the rules are in
docs/reference. `switch`, `branch` and `in_loop` of a task are the lowered form of other spellings, see `lowering`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import Field

from anabranch.core.request.document import Document
from anabranch.core.request.fields import Count, Duration, Json, Key, Name, ResultKey, Timeout

Condition: TypeAlias = Any

OnNoMatch = Literal["fail", "skip"]
OnTimeout = Literal["fail", "skip", "value"]
MAX_ITERATIONS = 1_000_000


class Switch(Document):
    """Chooses the first case whose condition is true, once all of their fields are settled.

    The value of a task with this field is the number of the case; with `has_default` it is `len(cases)` if none is
    true. Without a default it fails with NoCaseMatched, or (`skip`) chooses nothing.
    """

    cases: tuple[Condition, ...]
    has_default: bool = False
    on_no_match: OnNoMatch = "fail"
    reason: Literal["branch", "condition"] = "branch"
    """The reason that tasks of the other cases are skipped for."""


class Branch(Document):
    """The task runs only if the task `switch` (of the same group, or as group/task) has chosen `case`."""

    switch: str
    case: int


class Loop(Document):
    """Repeats the tasks that have `in_loop` with the name of this one, one iteration at a time."""

    each: Key | list[Json] | None = None
    """A key whose value is a list, or a list."""
    while_: Condition = Field(default=None, alias="while")
    until: Condition = None
    state: dict[Name, Json] = Field(default_factory=dict)
    max_iterations: Count = 100
    max_duration: Timeout | None = None
    delay: Duration = 0.0
    on_limit: Literal["fail", "complete"] = "fail"
    on_failure: Literal["fail", "continue"] = "fail"
    collect: Literal["last", "append", "none"] = "last"


class EventWait(Document):
    """A published event: its name, its correlation key, and a condition over its data."""

    name: Name
    key: str = ""
    when: Condition = None
    deliver: Literal["all", "one"] = "all"


class Approval(Document):
    """A decision by a person. `form` is the JSON Schema of the decision's data."""

    subject: str = ""
    body: Json = None
    options: tuple[str, ...] = ("approve", "reject")
    form: dict[str, Json] | None = None
    assignees: tuple[str, ...] = ()
    required: Count = 1
    forbid_requester: bool = False
    on_reject: Literal["fail", "skip", "value"] = "fail"


class Wait(Document):
    """Waits for exactly one of: a duration, a time, a condition, an event, a signal, an approval."""

    for_: Duration | str | None = Field(default=None, alias="for")
    until: Json = None
    """An RFC 3339 timestamp, or a placeholder of one."""
    condition: Condition = None
    event: EventWait | None = None
    signal: str | None = None
    approval: Approval | None = None
    timeout: Timeout | None = None
    on_timeout: OnTimeout = "fail"
    value: Json = None
    """The value on a timeout with `on_timeout: value`."""
    payload_schema: dict[str, Json] | None = Field(default=None, alias="schema")
    collect: Count = 1


class SubRun(Document):
    """Starts a run of its own, and takes its results as the value."""

    request: dict[str, Json] | None = None
    definition: str | None = None
    """`name` or `name@version`."""
    context: dict[Key, Json] = Field(default_factory=dict)
    session: Literal["own", "shared"] = "own"
    on_parent_end: Literal["cancel", "abandon"] = "cancel"
    outputs: tuple[ResultKey, ...] | None = None
    """The result keys of the child that are taken over; None: all."""
