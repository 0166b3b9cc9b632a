"""The outcome of a run with resolved results, and its JSON form. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from anabranch.core.costs import no_costs
from anabranch.core.errors import Problem, RequestRefused, RunCancelled, RunFailed, RunTimedOut

RunStatus = Literal["completed", "failed", "cancelled", "timed_out", "rejected"]
_ENDED_BADLY = {"failed": RunFailed, "cancelled": RunCancelled, "timed_out": RunTimedOut}


@dataclass(frozen=True, slots=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        status: completed, failed, cancelled, timed_out or rejected.
        results: values by result key, resolved; partial unless the run completed.
        failures: `{group, task, index, member, error_type, message, attempts}`; the system limits their number.
            The first failures of a task also have a `traceback`.
        executions: number of members by outcome: `{total, completed, failed, skipped}`.
        errors: reasons of a rejection, `{code, path, message, hint}`; else empty.
        duration_seconds: from acceptance to the end of the run.
        retry_of: run id of the run whose results this run imported; None if it is not a retry.
        skipped: `{group, task, reason, because}` of the first tasks that were skipped; `reason` is `dependency`,
            `condition`, `branch` or `empty`.
        handled_failures: failures that an `error_key` has as its value. They are not among `failures`.
        compensation: `complete`, or `incomplete` if a compensation failed for good; None if there was none.
        stopped_by: `{action, by, reason, at}` of the command that stopped the run; None if none did.
        taken_over: members among `executions` that completed in that run, and did not run again.
        costs: `{usd, tokens, seconds, executions, tasks}`: what the run has used; `tasks` has the same of each
            task, with `group` and `task`.
        origin: `parent` of a sub-run, `definition` that the run was admitted with, `forked_from` of a fork.
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
    skipped: Sequence[Mapping[str, Any]] = ()
    handled_failures: int = 0
    stopped_by: Mapping[str, Any] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    compensation: str | None = None
    costs: Mapping[str, Any] = field(default_factory=no_costs)

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    def check(self) -> RunResult:
        """Return this result if the run completed, else raise an error.

        Raises:
            RunFailed, RunCancelled, RunTimedOut: the run ended with this status; has failures and partial results.
            RequestRefused: the request was rejected; has every error.
        """
        if self.status == "rejected":
            raise RequestRefused([_problem(error) for error in self.errors], self.warnings)
        if self.status in _ENDED_BADLY:
            raise _ENDED_BADLY[self.status](self.run_id, self.failures, self.results)
        return self

    def to_document(self) -> dict[str, Any]:
        """The document of `anabranch run --json`. A rejected request has `errors`, and null for ids that it lacks;
        a retry has `retry_of` and `taken_over`, a run that a command stopped `stopped_by`."""
        document = {
            "run_id": self.run_id or None,
            "request_id": self.request_id or None,
            "session_id": self.session_id or None,
            "status": self.status,
            "results": dict(self.results),
            "failures": [dict(failure) for failure in self.failures],
            "executions": dict(self.executions),
            "costs": dict(self.costs),
            "skipped": [dict(task) for task in self.skipped],
            "handled_failures": self.handled_failures,
            "warnings": list(self.warnings),
            "duration_seconds": round(self.duration_seconds, 6),
        }
        if self.compensation is not None:
            document["compensation"] = self.compensation
        if self.stopped_by is not None:
            document["stopped_by"] = dict(self.stopped_by)
        if self.retry_of is not None:
            document |= {"retry_of": self.retry_of, "taken_over": self.taken_over}
        elif "forked_from" in self.origin:
            document["taken_over"] = self.taken_over
        document |= self.origin
        return document | ({"errors": [dict(e) for e in self.errors]} if self.status == "rejected" else {})


ORIGIN = ("parent", "definition", "forked_from")
"""Fields of a final record that say where the run is from, and that only some runs have."""


def origin_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """`RunResult.origin` of a final record, or of the document of a result."""
    return {name: body[name] for name in ORIGIN if body.get(name) is not None}


def no_executions() -> dict[str, int]:
    """Counts of a run that never started."""
    return {"total": 0, "completed": 0, "failed": 0, "skipped": 0}


def _problem(error: Mapping[str, str]) -> Problem:
    return Problem(
        code=error.get("code", ""),
        path=error.get("path", ""),
        message=error.get("message", ""),
        hint=error.get("hint", ""),
    )
