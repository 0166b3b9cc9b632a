"""The request that runs one execution of a task. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from anabranch.core.tasks.models import TASK, Task, TaskExecution
from anabranch.core.tasks.outcomes import RESULT

CONTEXT = "execution_context"
_AMOUNTS = {"cpu_cores": "cpu", "memory_gb": "memory", "disk_gb": "disk", "gpu_count": "gpu"}
_REQUIRES = ("cpu", "memory", "gpu", "disk", "labels")
_SHOWN = ("id", "name", "description", "task_type", "priority", "created_by", "tags", "metadata", "project_id")


@dataclass(frozen=True, slots=True)
class Start:
    """An execution that starts.

    Attributes:
        task: None if its kind needs none.
        agent: the name of an agent that is live; None if it wants none in particular.
        with_requires: False if no live worker announces what it offers: then nothing is required.
    """

    execution: TaskExecution
    task: Task | None
    agent: str | None
    with_requires: bool = False


def request_of(start: Start) -> dict[str, Any]:
    """The request of an execution: made once, kept in the outbox, and the same when it is published again."""
    return REQUESTS[start.execution.kind](start)


def _request_of_task(start: Start) -> dict[str, Any]:
    """The request of a task.

    The agent's inputs are `task`, a document, and the fields of the task's execution context.
    """
    task, execution = start.task, start.execution
    assert task is not None
    # Values of users are in the context, and the inputs name them: text in them is not taken for a placeholder.
    keys = {name: _context_key(name, place) for place, name in enumerate(task.execution_context)}
    inputs = {name: f"{{{CONTEXT}.{key}}}" for name, key in keys.items()}
    values = {key: task.execution_context[name] for name, key in keys.items()}
    fields: dict[str, Any] = {
        "name": "task",
        "agent": start.agent,
        "result_keys": [RESULT],
        "inputs": {**inputs, "task": "{task}"},
    }
    if start.with_requires and (required := requires_of(task.resource_requirements)):
        fields["requires"] = required
    request: dict[str, Any] = {
        "request_id": execution.request_id,
        "name": run_name(task.name),
        "project": task.owner,
        "labels": {"task_id": str(task.id), "task_type": str(task.task_type)},
        "priority": int(task.priority),
        "context": {"task": task_document(task, execution), CONTEXT: values},
        "task_groups": [{"name": "execution", "tasks": [fields]}],
    }
    if task.timeout_seconds is not None:
        request["timeout"] = task.timeout_seconds
    return request


def _context_key(name: str, place: int) -> str:
    """The key of an input in the context. A placeholder cannot name each text, such as one with a point."""
    return name if name.isidentifier() else f"input-{place}"


def run_name(name: str) -> str:
    """The name of a run for the name of a task or a workflow, which may have any characters."""
    shown = "".join(char if char.isprintable() else " " for char in name.replace("/", "-"))
    return shown.strip() or "task"


def task_document(task: Task, execution: TaskExecution) -> dict[str, Any]:
    """The input `task` of the agent."""
    shown = task.model_dump(mode="json", include=set(_SHOWN))
    shown["tags"] = sorted(shown["tags"])
    return {**shown, "execution_id": str(execution.id), "execution_number": execution.execution_number}


def requires_of(requirements: Mapping[str, Any]) -> dict[str, Any]:
    """`requires` of a request for the resource requirements of a task."""
    found = {name: requirements[name] for name in _REQUIRES if name in requirements}
    for name, resource in _AMOUNTS.items():
        if (value := requirements.get(name)) is not None:
            found[resource] = f"{value}Gi" if name.endswith("_gb") else value
    return found


REQUESTS: dict[str, Callable[[Start], dict[str, Any]]] = {TASK: _request_of_task}
"""By the kind of an execution: what makes its request."""
