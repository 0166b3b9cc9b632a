"""Reads a schedule, and makes its rule. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.admission import DEFAULT_LIMITS, Limits, read_request
from anabranch.core.request.document import Document
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.graph import SessionKeys
from anabranch.core.request.schema_errors import schema_problems
from anabranch.core.schedules.cron import Cron, is_cron
from anabranch.core.schedules.models import CatchUp, Schedule
from anabranch.core.schedules.moments import parse_date, parse_moment
from anabranch.core.schedules.times import Rule
from anabranch.core.schedules.zones import zone_of
from anabranch.core.timestamps import LATEST, utc_text

_MODELS: Mapping[str, type[Document]] = {"": Schedule, "catch_up": CatchUp}
SCHEDULED_AT = "scheduled_at"
"""The key of a firing's context with its logical time."""


def read_timing(document: Any) -> tuple[Schedule, Rule]:
    """Read when a schedule fires; what it submits is not looked at, and may be missing.

    Raises:
        RequestRefused: with every problem.
    """
    if not isinstance(document, Mapping):
        raise RequestRefused([Problem(Code.SCHEMA, "", "a schedule is an object", "it has `id` and `cron`")])
    try:
        schedule = Schedule.model_validate(document)
    except ValidationError as error:
        raise RequestRefused(tuple(schema_problems(error, document, json_pointer, _MODELS))) from error
    problems = list(_timing_problems(schedule))
    if problems:
        raise RequestRefused(problems)
    rule = rule_of(schedule)
    if rule.after(rule.start - 1) is None:
        hint = "see `except`, `from` and `to`, or the days of the expressions"
        raise RequestRefused([Problem(Code.SCHEMA, "", "the schedule never fires", hint)])
    return schedule, rule


def _timing_problems(schedule: Schedule) -> Iterator[Problem]:
    given = [name for name in ("cron", "every", "at") if getattr(schedule, name)]
    if not given:
        yield Problem(Code.SCHEMA, "", "the schedule has no times", "give it one of `cron`, `every`, `at`")
    for extra in given[1:]:
        message = f"`{extra}` and `{given[0]}` are both given"
        yield Problem(Code.SCHEMA, f"/{extra}", message, "keep one of them, or make two schedules")
    if schedule.phase is not None and schedule.every is None:
        yield Problem(Code.SCHEMA, "/phase", "`phase` is of `every`, which is not given", "leave it out")
    zone = zone_of(schedule.timezone)
    start, end = (None if each is None else parse_moment(each, zone) for each in (schedule.from_, schedule.to))
    if start is not None and end is not None and end < start:
        message = f"`to` ({utc_text(end)}) is before `from` ({utc_text(start)})"
        yield Problem(Code.SCHEMA, "/to", message, "give a later time")


def rule_of(schedule: Schedule) -> Rule:
    """The rule of a schedule that was read."""
    zone = zone_of(schedule.timezone)
    days, moments, crons = set(), set(), []
    for each in schedule.except_:
        if (day := parse_date(each)) is not None:
            days.add(day)
        elif is_cron(each):
            crons.append(Cron(str(each)))
        else:
            moments.add(parse_moment(each, zone))
    return Rule(
        zone=zone,
        crons=tuple(Cron(each) for each in schedule.cron),
        every=schedule.every or 0.0,
        phase=schedule.phase or 0.0,
        moments=tuple(sorted({parse_moment(each, zone) for each in schedule.at})),
        start=0.0 if schedule.from_ is None else parse_moment(schedule.from_, zone),
        end=LATEST if schedule.to is None else parse_moment(schedule.to, zone),
        excepted_days=frozenset(days),
        excepted_moments=frozenset(moments),
        excepted_crons=tuple(crons),
    )


def read_schedule(
    document: Any, *, limits: Limits = DEFAULT_LIMITS, agents: Collection[str] | None = None
) -> Schedule:
    """Read a schedule with the request that it submits.

    Raises:
        RequestRefused: with every problem.
    """
    problems: list[Problem] = []
    schedule = None
    try:
        schedule, _ = read_timing(document)
    except RequestRefused as refused:
        problems += refused.errors
    if isinstance(document, Mapping):
        problems += _content_problems(document, limits, agents)
    if problems:
        raise RequestRefused(problems)
    assert schedule is not None
    return schedule


def _content_problems(
    document: Mapping[str, Any], limits: Limits, agents: Collection[str] | None
) -> Iterator[Problem]:
    request, definition = document.get("request"), document.get("definition")
    if request is None and definition is None:
        yield Problem(Code.SCHEMA, "", "`request` is missing", "give the schedule a `request`, or a `definition`")
    elif request is not None and definition is not None:
        yield Problem(Code.SCHEMA, "/definition", "`definition` and `request` are both given", "keep one of them")
    if document.get("input") and definition is None:
        yield Problem(Code.SCHEMA, "/input", "`input` is of `definition`, which is not given", "leave it out")
    if isinstance(request, Mapping):
        yield from _request_problems(request, document.get("project"), limits, agents)


def _request_problems(
    request: Mapping[str, Any], project: Any, limits: Limits, agents: Collection[str] | None
) -> Iterator[Problem]:
    for name in ("request_id", "not_before", "deadline"):
        if request.get(name) is not None:
            yield Problem(
                Code.SCHEMA, f"/request/{name}", f"the request of a schedule has no `{name}`", "leave it out"
            )
    if request.get("project") not in (None, project or DEFAULT_PROJECT):
        yield Problem(Code.SCHEMA, "/request/project", "the project is that of the schedule", "leave it out")
    # Each firing looks the keys of its session up.
    session_keys: SessionKeys = (lambda _key: True) if request.get("session_id") else ()
    result = read_request(with_time(request, 0.0), limits=limits, agents=agents, session_keys=session_keys)
    yield from (replace(each, path=f"/request{each.path}") for each in result.errors)


def with_time(request: Mapping[str, Any], at: float) -> dict[str, Any]:
    """A request with the logical time of its firing in its context."""
    context = request.get("context") or {}
    if not isinstance(context, Mapping):
        return dict(request)
    return {**request, "context": {**context, SCHEDULED_AT: utc_text(at)}}
