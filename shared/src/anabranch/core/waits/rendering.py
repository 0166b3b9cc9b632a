"""Fills in the placeholders of a wait for its members: when a wait is over, and the name of its signal. Pure.

The owner of a session renders waits whose values are in its state. Values in the store are read by the shell,
which renders with the same functions and appends the result to the log.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from anabranch.core.durations import parse_duration
from anabranch.core.errors import AnabranchError
from anabranch.core.event_addresses import correlation_key_problem
from anabranch.core.expansion.members import Member
from anabranch.core.request.flow import Wait
from anabranch.core.templates import Template, compact_json, compile_template, member_scope, placeholders

MAX_TIME = 253_402_300_799.0
"""The last second of the year 9999, in seconds since the epoch: datetime has no later one."""
MAX_NAME = 500
"""Characters of a signal's name."""


class InvalidWait(AnabranchError):
    """A placeholder of a wait has a value that makes no time, duration or name. Fails the member."""


class RenderedWait(NamedTuple):
    """What one member waits for.

    Attributes:
        due: seconds since the epoch at which a wait for a time is over; None for other waits.
        name: the name of the signal; None for other waits.
        identifier: the member's name in a `separate` join; None without one.
        error: why the member fails before it waits; the other fields are then None.
        approval: JSON of what a person is asked: `subject`, `body`, `assignees`; None for other waits.
        key: the correlation key of the event; None for other waits.
    """

    due: float | None = None
    name: str | None = None
    identifier: str | None = None
    error: str | None = None
    approval: str | None = None
    key: str | None = None

    def to_document(self) -> list[Any]:
        """The wait as it is on the log; `of_document` reads it."""
        return list(self)

    @classmethod
    def of_document(cls, document: Sequence[Any]) -> RenderedWait:
        return cls(*document[:6])


def kind_of_wait(wait: Wait) -> str:
    """What a wait waits for: `time`, `condition`, `event`, `signal` or `approval`."""
    if wait.signal is not None:
        return "signal"
    if wait.approval is not None:
        return "approval"
    if wait.event is not None:
        return "event"
    return "condition" if wait.condition is not None else "time"


def placeholders_of(wait: Wait) -> frozenset[str]:
    """The text of each placeholder in the fields that differ between members."""
    approval = wait.approval
    asked = [] if approval is None else [approval.subject, approval.body, list(approval.assignees)]
    key = None if wait.event is None else wait.event.key
    return placeholders([wait.for_, wait.until, wait.signal, key, *asked])


class WaitRenderer:
    """Renders one wait for its members.

    Args:
        began: when the dependencies of the task were there, in seconds since the epoch: `for` counts from then.
        context: values that placeholders may name, by key.
        system: names such as `run_id`.
        is_named: whether members have identifiers, which a `separate` join needs.
    """

    def __init__(
        self,
        wait: Wait,
        began: float,
        context: Mapping[str, Any],
        system: Mapping[str, Any],
        *,
        is_named: bool = False,
    ) -> None:
        self._is_named = is_named
        self._began = began
        self._context = context
        self._system = system
        self._render = self._renderer(wait)

    def _renderer(self, wait: Wait) -> Callable[[Mapping[str, Any]], RenderedWait]:
        if wait.for_ is not None:
            duration = compile_template(wait.for_, typed=True)
            return lambda scope: RenderedWait(due=self._began + _duration(duration, scope))
        if wait.until is not None:
            until = compile_template(wait.until, typed=True)
            return lambda scope: RenderedWait(due=_time(until.render(scope)))
        if wait.signal is not None:
            name = compile_template(wait.signal)
            return lambda scope: RenderedWait(name=_name(name.render(scope)))
        if wait.event is not None:
            key = compile_template(wait.event.key)
            return lambda scope: RenderedWait(key=_key(key.render(scope)))
        if wait.approval is not None:
            asked = wait.approval
            approval = compile_template(
                {"subject": asked.subject, "body": asked.body, "assignees": list(asked.assignees)}
            )
            return lambda scope: RenderedWait(approval=compact_json(approval.render(scope)))
        return lambda scope: RenderedWait()

    def only(self) -> RenderedWait:
        """The wait of a task without an expansion."""
        return self._rendered(member_scope({}, self._context, {"index": None}, self._system))

    def of_members(self, members: Iterator[Member]) -> Iterator[RenderedWait]:
        """The wait of each member."""
        for member in members:
            if member.error is not None:
                yield RenderedWait(error=member.error)
                continue
            scope = member_scope(member.scope, self._context, {"index": member.index}, self._system)
            rendered = self._rendered(scope)
            yield rendered._replace(identifier=member.identifier) if self._is_named else rendered

    def _rendered(self, scope: Mapping[str, Any]) -> RenderedWait:
        try:
            return self._render(scope)
        except AnabranchError as error:
            return RenderedWait(error=str(error))


def _duration(template: Template, scope: Mapping[str, Any]) -> float:
    value = template.render(scope)
    try:
        return parse_duration(value)
    except ValueError as error:
        raise InvalidWait(f"`for` of the wait: {error}") from error


def _time(value: Any) -> float:
    """Seconds since the epoch of an RFC 3339 timestamp, or of a number, which may be text."""
    if isinstance(value, str):
        return _of_text(value.strip())
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _checked(value, repr(value))
    raise InvalidWait(f"`until` of the wait is {_shown(value)}: {_WANTED}")


def _of_text(text: str) -> float:
    try:
        return _checked(float(text), text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidWait(f"`until` of the wait is {_shown(text)}: {_WANTED}") from None
    # A timestamp without an offset has no time: it is read as UTC, as `now` is shown everywhere.
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


_WANTED = "write an RFC 3339 timestamp such as 2030-01-31T08:00:00Z, or seconds since the epoch"


def _checked(value: float, text: str) -> float:
    if not math.isfinite(value) or not 0 <= value <= MAX_TIME:
        raise InvalidWait(f"`until` of the wait is {_shown(text)}, which is not between 1970 and 9999")
    return float(value)


def _name(value: str) -> str:
    if not value or len(value) > MAX_NAME or not value.isprintable():
        raise InvalidWait(
            f"the name of the signal is {_shown(value)}: it needs 1 to {MAX_NAME} printable characters"
        )
    return value


def _key(value: str) -> str:
    if (problem := correlation_key_problem(value)) is not None:
        raise InvalidWait(f"the key of the event is {_shown(value)}: {problem}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
