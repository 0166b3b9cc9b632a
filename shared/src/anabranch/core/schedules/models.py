"""A schedule as users write it: structure, and one canonical spelling of each value."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from anabranch.core.errors import Code
from anabranch.core.names import name_problem
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.document import Document
from anabranch.core.request.fields import Count, Duration, Json, Key, Project, Timeout
from anabranch.core.schedules.cron import Cron, is_cron
from anabranch.core.schedules.moments import parse_date, parse_moment
from anabranch.core.schedules.zones import zone_of

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "allow"]
CatchUpRuns = Literal["latest", "all", "none"]
MAX_ID = 200
"""Characters of a schedule's id: the id of a firing has the logical time as well."""
MAX_TIMES = 1_000
"""Expressions, times and exceptions of one schedule."""
MIN_EVERY = 1.0


def _refusal(message: str, code: Code = Code.SCHEMA, hint: str = "") -> PydanticCustomError:
    return PydanticCustomError(code.value, "{reason}", {"reason": message, "hint": hint})


def _check_id(value: object) -> object:
    if not isinstance(value, str):
        return value
    problem = name_problem(value)
    if problem is None and (bad := next((each for each in "@{}" if each in value), None)):
        problem = f"{value[:60]!r} contains {bad!r}, which is not allowed here"
    if problem is None and len(value) > MAX_ID:
        problem = f"it has {len(value)} characters, the maximum is {MAX_ID}"
    if problem is not None:
        raise _refusal(problem, Code.BAD_NAME)
    return value


def _check_cron(value: object) -> object:
    if isinstance(value, str):
        try:
            Cron(value)
        except ValueError as error:
            raise _refusal(str(error), hint='such as "30 7 * * MON-FRI"') from error
    return value


def _one_or_list(value: object) -> object:
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _check_zone(value: object) -> object:
    if isinstance(value, str):
        try:
            zone_of(value)
        except ValueError as error:
            raise _refusal(str(error), hint="such as Europe/Berlin or UTC") from error
    return value


def _check_moment(value: object) -> object:
    try:
        parse_moment(value, zone_of("UTC"))
    except ValueError as error:
        raise _refusal(str(error)) from error
    return value


def _check_exception(value: object) -> object:
    if is_cron(value):
        return _check_cron(value)
    return value if parse_date(value) is not None else _check_moment(value)


_CRON_SCHEMA = {"type": "string", "description": "minute hour day-of-month month day-of-week, or such as @daily"}
_TIME_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "number", "minimum": 0}],
    "description": (
        "a time such as 2030-01-31T08:00:00Z (without an offset a wall time of the schedule's time zone), or "
        "seconds since the epoch"
    ),
}
ScheduleId = Annotated[
    str,
    BeforeValidator(_check_id),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_ID, "pattern": r"^[^/@{}]*$"}),
]
CronText = Annotated[str, BeforeValidator(_check_cron), WithJsonSchema(_CRON_SCHEMA)]
Moment = Annotated[str | int | float, BeforeValidator(_check_moment), WithJsonSchema(_TIME_SCHEMA)]
Exception_ = Annotated[
    str | int | float,
    BeforeValidator(_check_exception),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "minLength": 1}, {"type": "number", "minimum": 0}],
            "description": "a day such as 2030-12-24, a time, or a cron expression",
        }
    ),
]
Every = Annotated[Timeout, Field(ge=MIN_EVERY)]
Zone = Annotated[str, BeforeValidator(_check_zone), WithJsonSchema({"type": "string"})]
_LIST = Field(default=(), max_length=MAX_TIMES)


class CatchUp(Document):
    """What becomes of firings that were due while no owner was there."""

    window: Duration = 3600.0
    """Seconds for which a firing may be late. Older ones are missed."""
    runs: CatchUpRuns = "latest"
    """Of several late firings: the last one, all of them, or none."""


class Schedule(Document):
    """When a request is submitted by the clock, and what it is."""

    id: ScheduleId
    project: Project = DEFAULT_PROJECT
    cron: Annotated[tuple[CronText, ...], BeforeValidator(_one_or_list)] = _LIST
    """Cron expressions of five fields, in the time zone. A schedule has one of ``cron``, ``every``, ``at``."""
    every: Every | None = None
    """The time between two firings, counted from 1970-01-01T00:00:00Z."""
    phase: Duration | None = None
    """Of ``every``: how much later each firing is."""
    at: Annotated[tuple[Moment, ...], BeforeValidator(_one_or_list)] = _LIST
    except_: Annotated[tuple[Exception_, ...], BeforeValidator(_one_or_list)] = Field(
        default=(), max_length=MAX_TIMES, alias="except"
    )
    """Days, times, or cron expressions of wall times, at which the schedule does not fire."""
    timezone: Zone = "UTC"
    """IANA name of the time zone of cron expressions, days, and times without an offset."""
    from_: Moment | None = Field(default=None, alias="from")
    """No firing is before this time."""
    to: Moment | None = None
    """No firing is after this time."""
    limit: Count | None = None
    """How often the schedule fires in all."""
    jitter: Duration | None = None
    """Up to how much later than its logical time a firing starts. It is the same for one firing at each owner."""
    overlap: Overlap = "skip"
    """What becomes of a firing while the run of an earlier one has not ended."""
    catch_up: CatchUp = CatchUp()
    paused: bool = False
    pause_on_failure: bool = False
    """A run that fails or times out pauses the schedule."""
    request: dict[str, Json] | None = None
    definition: str | None = Field(default=None, min_length=1)
    """A definition to start in place of ``request``: `name` for its last version, or `name@version`."""
    input: dict[Key, Json] = Field(default_factory=dict)
    """Of ``definition``: values that replace those of its context."""
