"""Every error that Anabranch raises, in one tree, split by what to do about it.

::

    AnabranchError
    |
    |   fix the request, then send it again
    +-- RequestRefused         errors: every Problem at once; warnings
    |
    |   the task or its attempt fails
    +-- ConditionError         a condition cannot be evaluated with the values that there are: not retried
    +-- ExpansionError         the array of an expansion is missing, not a list, or does not fit: not retried
    +-- ContextConflict        values written to one key of the context contradict each other: not retried
    +-- ResultError            what the agent returned lacks a key or is not JSON: a failed attempt
    +-- AttemptTimeout         the attempt took longer than its timeout: a failed attempt
    +-- TaskCancelled          the run was cancelled or timed out: nothing to do, stop
    |
    |   raised by an agent to control the next attempt
    +-- GiveUp                 this will never work: not retried
    +-- RetryLater             try again after a time that the agent knows
    |
    |   the environment: servers, settings, other owners
    +-- ServerUnavailable      a server cannot be reached: wait, or correct its address
    +-- StoreRefused           the store refused (memory, access, version): correct the server
    +-- Misconfigured          a setting is wrong or two contradict: correct it and start again
    |   +-- TopicsMissing      topics do not exist and may not be created here: create them
    +-- MainTaskCancelled      an agent cancelled the task of the whole process: correct the agent
    +-- RecordTooLarge         a record is over the log's limit: store the value and send a reference
    +-- NoSuchVersion          the context has no such version, or not any more: ask for another
    +-- ValueGone              a stored value has expired: run it again, or keep results longer
    +-- Fenced                 another owner has taken over: discard the state, write nothing
    |
    |   how a run ended, raised to callers that wait for its result
    +-- RunNotCompleted        status, run_id, failures and the partial results
        +-- RunFailed
        +-- RunCancelled
        +-- RunTimedOut

Programming errors (``TypeError`` and the like) are never wrapped. Every class takes its fields by position
too and keeps them in ``args``, so that an error survives pickling. This module imports no other part of the
system but durations, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from anabranch.core.durations import parse_duration


class Code(StrEnum):
    """The stable codes of a ``Problem``. Public: users' code branches on them."""

    NOT_JSON = "not_json"
    """The bytes are not JSON in UTF-8, or an object has one key twice."""
    NOT_YAML = "not_yaml"
    """The file is not YAML, or has one key twice in a mapping."""
    NOT_A_REQUEST = "not_a_request"
    """The document is JSON but not an object."""
    TOO_DEEP = "too_deep"
    """The document is nested over 200 levels deep."""
    SCHEMA = "schema"
    """A field is missing, has the wrong type, or a value outside its range."""
    UNKNOWN_FIELD = "unknown_field"
    """A field that the schema does not have."""
    NOT_SUPPORTED = "not_supported"
    """A reserved field, value or action: not supported yet."""
    BAD_NAME = "bad_name"
    """A name, key or id with a character it may not have, empty, or over 255 characters."""
    DUPLICATE_NAME = "duplicate_name"
    """Two groups, or two tasks of one group, have one name."""
    DUPLICATE_RESULT_KEY = "duplicate_result_key"
    """Two tasks declare one result key, or one task declares it twice."""
    UNKNOWN_DEPENDENCY = "unknown_dependency"
    """A required key that no task produces, no context has, and that is not declared external."""
    UNKNOWN_CONTEXT_KEY = "unknown_context_key"
    """A policy for a key that no task of the request produces and its context does not have."""
    NOT_A_SUBSET = "not_a_subset"
    """``optional_dependencies`` or ``optional_result_keys`` names a key that the full list lacks."""
    CYCLE = "cycle"
    """Tasks that wait for each other; the message shows the path."""
    UNKNOWN_AGENT = "unknown_agent"
    """No such agent in the registry, where the registry is known."""
    UNKNOWN_PLACEHOLDER = "unknown_placeholder"
    """With ``strict``: a template has a placeholder without a value. Without ``strict`` it is a warning."""
    EXPANSION_WITHOUT_ARRAY = "expansion_without_array"
    """An expansion that names nothing to expand over."""
    TOO_LARGE = "too_large"
    """The request is over the limit of bytes."""
    TOO_MANY_DEPENDENCIES = "too_many_dependencies"
    """The tasks have over a million dependencies together, each group's counted for each of its tasks."""
    TOO_MANY_ERRORS = "too_many_errors"
    """There are more errors than the first 1,000, which are listed."""
    TOO_MANY_MEMBERS = "too_many_members"
    """The expansions have more members than the limit."""
    REQUEST_ID_CONFLICT = "request_id_conflict"
    """The request id was used before, with another body."""
    SESSION_OF_ANOTHER_PROJECT = "session_of_another_project"
    """The session belongs to another project, or its id is that of a run that the project does not have."""
    NOT_RETRYABLE = "not_retryable"
    """The run to retry is not known, is still open, completed, or its request is no longer on the log."""
    UNKNOWN_DEFINITION = "unknown_definition"
    """The project has no definition with this name, or not this version of it."""
    UNKNOWN_SCHEDULE = "unknown_schedule"
    """There is no schedule with this id."""
    DEFINITION_CONFLICT = "definition_conflict"
    """The version of the definition exists with another content."""
    INTERNAL = "internal"
    """An internal error of Anabranch, not a fault of the request; the service's log has the traceback."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a request is refused.

    ``path`` is a JSON Pointer (RFC 6901) into the document as it was sent: ``""`` is the whole document, and
    a missing field is reported at the object that lacks it. ``hint`` says the fix, or is empty.
    """

    code: str
    path: str
    message: str
    hint: str = ""

    def to_document(self) -> dict[str, str]:
        """``{code, path, message, hint}``: the shape in every record and in ``--json``."""
        return asdict(self) | {"code": str(self.code)}

    def __str__(self) -> str:
        where = self.path or "(the request)"
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class AnabranchError(Exception):
    """The base class: every error that Anabranch raises deliberately is one of it."""


class RequestRefused(AnabranchError):
    """Nothing was started. ``errors`` holds every problem found, not only the first."""

    def __init__(self, errors: Sequence[Problem], warnings: Sequence[str] = ()) -> None:
        self.errors = tuple(errors)
        self.warnings = tuple(warnings)
        super().__init__(self.errors, self.warnings)

    def __str__(self) -> str:
        count = "1 error" if len(self.errors) == 1 else f"{len(self.errors)} errors"
        return "\n".join([f"the request was refused, {count}:", *(f"  {error}" for error in self.errors)])


class ConditionError(AnabranchError):
    """A condition cannot be evaluated: a path has no value, or ``operator`` cannot compare the value of ``field``.

    Fails the task, without a retry. ``reason`` has the types of both values, ``fix`` says what to write instead.
    """

    def __init__(self, field: str, operator: str, reason: str, fix: str = "") -> None:
        self.field = field
        self.operator = operator
        self.reason = reason
        self.fix = fix
        super().__init__(field, operator, reason, fix)

    def __str__(self) -> str:
        return f"{self.reason}. {self.fix[:1].upper()}{self.fix[1:]}" if self.fix else self.reason


class ExpansionError(AnabranchError):
    """The arrays of an expansion do not fit. Fails the task, without a retry."""


class ContextConflict(AnabranchError):
    """The values that ``writers`` (``group/task``) wrote to ``key`` contradict each other under its policy."""

    def __init__(self, key: str, writers: Sequence[str], reason: str) -> None:
        self.key = key
        self.writers = tuple(writers)
        self.reason = reason
        super().__init__(key, self.writers, reason)

    def __str__(self) -> str:
        return f"{self.key!r}, written by {' and '.join(self.writers)}: {self.reason}"


class ResultError(AnabranchError):
    """The value that an agent returned does not have the results that its task declares.

    ``missing`` are the required result keys that it lacks; empty if the value is wrong in another way.
    """

    def __init__(self, message: str, missing: Sequence[str] = ()) -> None:
        self.missing = tuple(missing)
        super().__init__(message, self.missing)

    def __str__(self) -> str:
        return str(self.args[0])


class AttemptTimeout(AnabranchError):
    """An attempt was stopped after its ``timeout`` (seconds). Retried as the retry policy says."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        super().__init__(timeout)

    def __str__(self) -> str:
        return f"the attempt took longer than its timeout of {self.timeout:g} s"


class TaskCancelled(AnabranchError):
    """The run was cancelled or timed out while the agent was running. Raised in agents that run in a thread."""


class GiveUp(AnabranchError):
    """Raised by an agent if another attempt cannot help: the member fails at once."""


class RetryLater(AnabranchError):
    """Raised by an agent to request the next attempt after ``after``: seconds, or text such as ``"30s"``.

    The policy's ``max_attempts`` still holds. With ``scope="key"``, all members wait that share the limit of the
    task: its ``rate_limit``, else its ``concurrency`` key.

    Raises:
        ValueError: ``after`` is not a duration, or ``scope`` is neither ``"member"`` nor ``"key"``.
    """

    def __init__(self, after: float | str, reason: str = "", *, scope: str = "member") -> None:
        if scope not in ("member", "key"):
            raise ValueError(f"the scope of RetryLater is 'member' or 'key', not {scope!r}")
        self.after = parse_duration(after)
        self.reason = reason
        self.scope = scope
        super().__init__(self.after, reason)

    def __str__(self) -> str:
        return self.reason or f"the agent asked for another attempt after {self.after:g} s"


class ServerUnavailable(AnabranchError):
    """``server`` (``"Kafka"``, ``"Redis"``) cannot be reached at ``address``, for this ``reason``."""

    def __init__(self, server: str, address: str, reason: str, fix: str = "") -> None:
        self.server = server
        self.address = address
        self.reason = reason
        self.fix = fix
        super().__init__(server, address, reason, fix)

    def __str__(self) -> str:
        text = f"{self.server} cannot be reached at {self.address}: {self.reason}"
        return f"{text}. {self.fix}" if self.fix else text


class StoreRefused(AnabranchError):
    """The store responds but refuses ``operation``: out of memory, no permission, a replica, or too old."""

    def __init__(self, operation: str, reason: str, fix: str = "") -> None:
        self.operation = operation
        self.reason = reason
        self.fix = fix
        super().__init__(operation, reason, fix)

    def __str__(self) -> str:
        text = f"the store refused {self.operation}: {self.reason}"
        return f"{text}. {self.fix}" if self.fix else text


class Misconfigured(AnabranchError):
    """``setting`` is wrong for this ``reason``; ``fix`` says what to set instead."""

    def __init__(self, setting: str, reason: str, fix: str = "") -> None:
        self.setting = setting
        self.reason = reason
        self.fix = fix
        super().__init__(setting, reason, fix)

    def __str__(self) -> str:
        text = f"{self.setting}: {self.reason}"
        return f"{text}. {self.fix}" if self.fix else text


class TopicsMissing(Misconfigured):
    """Topics do not exist, and ``create_topics`` is off. A service waits for them."""


class MainTaskCancelled(AnabranchError):
    """Code in this process cancelled the main task of a command or service."""

    def __str__(self) -> str:
        return (
            "code in this process cancelled the main task, so the process ends. An agent that cancels all of "
            "asyncio.all_tasks() does this; let agents cancel only the tasks they created"
        )


class RecordTooLarge(AnabranchError):
    """A record for ``topic`` has ``size`` bytes, over the ``limit``; nothing was appended."""

    def __init__(self, topic: str, size: int, limit: int) -> None:
        self.topic = topic
        self.size = size
        self.limit = limit
        super().__init__(topic, size, limit)

    def __str__(self) -> str:
        return (
            f"a record for {self.topic} has {self.size:,} bytes and the limit is {self.limit:,}. "
            "Store the value in pages and send a reference"
        )


class NoSuchVersion(AnabranchError):
    """``version`` of the context of ``session_id`` is not kept; versions ``first`` to ``last`` are."""

    def __init__(self, session_id: str, version: int, first: int, last: int) -> None:
        self.session_id = session_id
        self.version = version
        self.first = first
        self.last = last
        super().__init__(session_id, version, first, last)

    def __str__(self) -> str:
        return (
            f"version {self.version} of the context of session {self.session_id} is not available: "
            f"versions {self.first} to {self.last} are kept"
        )


class ValueGone(AnabranchError):
    """The value that a reference to ``key`` of ``session_id`` names is no longer in the store."""

    def __init__(self, session_id: str, key: str, reason: str) -> None:
        self.session_id = session_id
        self.key = key
        self.reason = reason
        super().__init__(session_id, key, reason)

    def __str__(self) -> str:
        return f"the value of {self.key!r} in session {self.session_id} is gone: {self.reason}"


class Fenced(AnabranchError):
    """A write with ``epoch`` was refused, because the owner of ``key`` has the higher epoch ``current``."""

    def __init__(self, key: str, epoch: int, current: int) -> None:
        self.key = key
        self.epoch = epoch
        self.current = current
        super().__init__(key, epoch, current)

    def __str__(self) -> str:
        return f"{self.key} has another owner: this owner has epoch {self.epoch}, the current one {self.current}"


class RunNotCompleted(AnabranchError):
    """A run ended and is not completed. ``results`` are the partial results, ``failures`` the reasons."""

    status = "not completed"

    def __init__(
        self,
        run_id: str,
        failures: Sequence[Mapping[str, Any]] = (),
        results: Mapping[str, Any] | None = None,
    ) -> None:
        self.run_id = run_id
        self.failures = tuple(failures)
        self.results = dict(results or {})
        super().__init__(run_id, self.failures, self.results)

    def __str__(self) -> str:
        text = f"run {self.run_id} {self.status}"
        if not self.failures:
            return text
        first = self.failures[0]
        more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
        where = f"{first.get('group')}/{first.get('task')}"
        return f"{text}: {where}: {first.get('error_type')}: {first.get('message')}{more}"


class RunFailed(RunNotCompleted):
    """A task had more failed members than it tolerates; the other branches ran to their end."""

    status = "failed"


class RunCancelled(RunNotCompleted):
    """The run was cancelled."""

    status = "cancelled"


class RunTimedOut(RunNotCompleted):
    """The run did not end within its timeout."""

    status = "timed out"
