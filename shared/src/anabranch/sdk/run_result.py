"""How a run ended, for whoever waited: one value with its results resolved. Pure data and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from anabranch.core.errors import Problem, RequestRefused, RunCancelled, RunFailed, RunTimedOut

RunStatus = Literal["completed", "failed", "cancelled", "timed_out", "rejected"]
_ENDED_BADLY = {"failed": RunFailed, "cancelled": RunCancelled, "timed_out": RunTimedOut}


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a run.

    Attributes:
        status: completed, failed, cancelled, timed_out or rejected.
        results: all result keys, resolved; partial unless the run completed.
        failures: `{group, task, index, member, error_type, message, attempts}`, capped by the server; the first
            failures of a task also have a `traceback`.
        executions: members by outcome: `{total, completed, failed, skipped}`.
        errors: why the request was rejected, `{code, path, message, hint}`; else empty.
        duration_seconds: from acceptance to the end.
        retry_of: run id of the run whose results this run imported; None if it is not a retry.
        taken_over: members among `executions` that completed in that run, and did not run again.
    """

    run_id: str
    request_id: str
    session_id: str
    status: RunStatus
    results: Mapping[str, Any] = field(default_factory=dict)
    failures: Sequence[Mapping[str, Any]] = ()
    executions: Mapping[str, int] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    duration_seconds: float = 0.0
    errors: Sequence[Mapping[str, str]] = ()
    retry_of: str | None = None
    taken_over: int = 0

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    def check(self) -> RunResult:
        """Itself where the run completed.

        Raises:
            RunFailed, RunCancelled, RunTimedOut: it ended so; with failures and the partial results.
            RequestRefused: it was rejected; with every error.
        """
        if self.status == "rejected":
            raise RequestRefused([_problem(error) for error in self.errors], self.warnings)
        if self.status in _ENDED_BADLY:
            raise _ENDED_BADLY[self.status](self.run_id, self.failures, self.results)
        return self

    def to_document(self) -> dict[str, Any]:
        """The shape of `anabranch run --json`; `errors` only where the request was rejected, and there an id
        that it does not name is null; `retry_of` and `taken_over` only of a retry."""
        document = {
            "run_id": self.run_id or None,
            "request_id": self.request_id or None,
            "session_id": self.session_id or None,
            "status": self.status,
            "results": dict(self.results),
            "failures": [dict(failure) for failure in self.failures],
            "executions": dict(self.executions),
            "warnings": list(self.warnings),
            "duration_seconds": round(self.duration_seconds, 6),
        }
        if self.retry_of is not None:
            document |= {"retry_of": self.retry_of, "taken_over": self.taken_over}
        return document | ({"errors": [dict(e) for e in self.errors]} if self.status == "rejected" else {})


def no_executions() -> dict[str, int]:
    """The counts of a run that never started."""
    return {"total": 0, "completed": 0, "failed": 0, "skipped": 0}


def _problem(error: Mapping[str, str]) -> Problem:
    return Problem(
        code=error.get("code", ""),
        path=error.get("path", ""),
        message=error.get("message", ""),
        hint=error.get("hint", ""),
    )
