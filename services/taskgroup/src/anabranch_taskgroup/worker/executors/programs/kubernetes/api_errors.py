"""Errors of the Kubernetes API, and what they mean for an execution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anabranch_taskgroup.worker.executors.programs.engine import EngineUnavailable, ProgramRefused

UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
CONFLICT = 409
EXPIRED = 410
TOO_MANY = 429
SERVER_ERRORS = 500

_QUOTA = "exceeded quota"
_ENDING_NAMESPACE = "because it is being terminated"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API in the terms of a Role: `create` on `jobs` of group `batch`."""

    verb: str
    resource: str
    namespace: str
    name: str = ""
    group: str = ""

    def __str__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"{self.verb} {self.resource}{name} in namespace {self.namespace!r}"


class ApiError(Exception):
    """The API refused a call."""

    def __init__(self, call: Call, status: int, message: str, retry_after: float | None = None) -> None:
        self.call = call
        self.status = status
        self.message = message
        self.retry_after = retry_after
        super().__init__(call, status, message)

    def __str__(self) -> str:
        return f"cannot {self.call}: {explanation(self)}"

    @property
    def is_transient(self) -> bool:
        """True if the same call may succeed later without anybody changing the request."""
        if self.status == FORBIDDEN:
            return _QUOTA in self.message
        return self.status in (UNAUTHORIZED, TOO_MANY) or self.status >= SERVER_ERRORS


class ApiUnreachable(Exception):
    """There was no response from the API."""

    def __init__(self, call: Call, server: str, cause: str) -> None:
        self.call = call
        super().__init__(f"cannot {call}: the Kubernetes API at {server} does not answer: {cause}")


def explanation(error: ApiError) -> str:
    """What a refusal means and what to do about it."""
    call = error.call
    if error.status == UNAUTHORIZED:
        return (
            "the Kubernetes API does not accept the worker's credentials (401): its token has expired, or the "
            "service account no longer exists"
        )
    if error.status == FORBIDDEN and _QUOTA in error.message:
        return f"the quota of the namespace is used up, and the call is tried again: {error.message}"
    if error.status == FORBIDDEN and " cannot " in error.message:
        group = f" of API group {call.group!r}" if call.group else ""
        return (
            f"the worker's Role lacks the verb {call.verb!r} on {call.resource!r}{group} in namespace "
            f"{call.namespace!r} (403): add it, as docs/programs.md lists the verbs: {error.message}"
        )
    if error.status == FORBIDDEN and _ENDING_NAMESPACE in error.message:
        return f"namespace {call.namespace!r} is being deleted (403)"
    if error.status == TOO_MANY:
        return f"the Kubernetes API limits its load (429): {error.message}"
    return f"{error.message} ({error.status})"


def of_response(call: Call, status: int, body: Any, text: str, retry_after: str | None) -> ApiError:
    """The error of a response that is not a success; its body is a Status, or anything from a proxy in between."""
    message = str(body["message"]) if isinstance(body, Mapping) and body.get("message") else text[:500]
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return ApiError(call, status, message or "no message", seconds)


def unavailable(error: ApiError | ApiUnreachable) -> EngineUnavailable:
    """The error for a call that the caller repeats."""
    return EngineUnavailable(str(error))


def refused_or_unavailable(error: ApiError | ApiUnreachable) -> EngineUnavailable | ProgramRefused:
    """The error for a call of `start`: transient errors are repeated, others refuse the program."""
    if isinstance(error, ApiError) and not error.is_transient:
        return ProgramRefused(str(error))
    return unavailable(error)
