"""Records that the registry wants on the log: requests, and commands for their runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from anabranch.core.tasks.models import TaskExecution


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A record for the topic `requests`. Publishing it twice has the effect of once."""

    id: str
    execution_id: UUID
    document: Mapping[str, Any]
    created_at: float


def start_row(execution: TaskExecution, request: Mapping[str, Any], now: float) -> OutboxRow:
    """The row that starts an execution."""
    return OutboxRow(f"{execution.id}/start", execution.id, request, now)


def control_row(
    execution: TaskExecution, action: str, by: str | None, reason: str | None, now: float
) -> OutboxRow:
    """The row with a command for the run of an execution, such as `cancel`."""
    command = {"type": action, "request_id": execution.request_id, "by": by, "reason": reason}
    given = {name: value for name, value in command.items() if value is not None}
    return OutboxRow(f"{execution.id}/{action}", execution.id, given, now)
