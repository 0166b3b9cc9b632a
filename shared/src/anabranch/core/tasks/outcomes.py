"""The end of an execution, read from the final record of its run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from anabranch.core.names import run_id_for
from anabranch.core.tasks.kinds import ExecutionStatus

TIMED_OUT = "Task execution timed out"
RESULT = "result"
"""The result key of a task's run."""
_PREFIX = "task/"
_EXECUTION = "execution/"

_STATUS = {
    "completed": ExecutionStatus.COMPLETED,
    "failed": ExecutionStatus.FAILED,
    "cancelled": ExecutionStatus.CANCELLED,
    "timed_out": ExecutionStatus.TIMEOUT,
    "rejected": ExecutionStatus.FAILED,
}


def request_id_of(task_id: UUID | str, number: int) -> str:
    """The request id of an execution: publishing its request twice starts one run."""
    return f"{_PREFIX}{task_id}/{number}"


def execution_request_id(execution_id: UUID) -> str:
    """The request id of an execution of `anabranch.execution`."""
    return f"{_EXECUTION}{execution_id}"


def is_of_task(request_id: str | None) -> bool:
    """True for a request id of `request_id_of` or `execution_request_id`."""
    return request_id is not None and request_id.startswith((_PREFIX, _EXECUTION))


def run_id_of(task_id: UUID | str, number: int) -> str:
    """The run id of an execution."""
    return run_id_for(request_id_of(task_id, number))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended.

    Attributes:
        result: the value that the agent returned; of several results a mapping.
        error: `{error_type, message, traceback}` of its first failure.
        usage: `{duration_seconds, usd, tokens, cpu_seconds, memory_mb}`, as far as they are known.
        retries: how often its work was repeated; None if that is not known, as of a run with several members.
    """

    status: ExecutionStatus
    result: Any = None
    error: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    cancel_reason: str | None = None
    retries: int | None = None


def outcome_of(body: Mapping[str, Any], results: Mapping[str, Any]) -> Outcome:
    """The outcome of a final record or of a rejection.

    Args:
        results: the results of the run, resolved.
    """
    status = _STATUS[str(body["status"])]
    result = results[RESULT] if set(results) == {RESULT} else (dict(results) or None)
    stopped = body.get("stopped_by") or {}
    error, usage = _error_of(status, body), _usage_of(body)
    return Outcome(status, result, error, usage, stopped.get("reason"), _retries_of(body))


def _error_of(status: ExecutionStatus, body: Mapping[str, Any]) -> dict[str, Any] | None:
    if status == ExecutionStatus.TIMEOUT:
        return {"error_type": "TimeoutError", "message": TIMED_OUT}
    if status != ExecutionStatus.FAILED:
        return None
    if errors := body.get("errors"):
        texts = [f"{each.get('path') or 'the request'}: {each.get('message')}" for each in errors]
        return {"error_type": "RequestRefused", "message": "; ".join(texts)}
    failures = body.get("failures") or ({"error_type": "RunFailed", "message": "the run failed"},)
    first = failures[0]
    if first.get("error_type") == "AttemptTimeout":
        return {"error_type": "AttemptTimeout", "message": TIMED_OUT, "traceback": first.get("traceback")}
    return {name: first.get(name) for name in ("error_type", "message", "traceback")}


def _retries_of(body: Mapping[str, Any]) -> int | None:
    """The attempts after the first one of a run with one member. Of one that failed its failure has them. Else the
    calls of its agent are counted, which a death of its worker repeats as well."""
    if (body.get("executions") or {}).get("total") != 1 or (costs := body.get("costs")) is None:
        return None
    made = [failure["attempts"] for failure in body.get("failures") or () if failure.get("attempts")]
    calls: int = made[0] if made else costs["executions"]
    return max(0, calls - 1)


def _usage_of(body: Mapping[str, Any]) -> dict[str, Any]:
    costs = body.get("costs") or {}
    found = {
        "duration_seconds": body.get("duration_seconds"),
        # A sum of nothing is 0 in the record: nothing was reported.
        "usd": costs.get("usd") or None,
        "tokens": costs.get("tokens") or None,
    }
    return {name: value for name, value in found.items() if value is not None}
