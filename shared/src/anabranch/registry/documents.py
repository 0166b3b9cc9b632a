"""Tasks, executions, projects and agents as JSON documents. Pure."""

from __future__ import annotations

from typing import Any

from anabranch.core.tasks.models import AgentRecord, Project, Task, TaskExecution

Document = dict[str, Any]

_INTERNAL = frozenset({"holds_slot", "data", "waiting"})


def task_document(task: Task) -> Document:
    """A task; sets are sorted lists."""
    document = task.model_dump(mode="json")
    return document | {"tags": sorted(document["tags"]), "depends_on": sorted(document["depends_on"])}


def execution_document(execution: TaskExecution) -> Document:
    """An execution of a task."""
    return execution.model_dump(mode="json", exclude=set(_INTERNAL))


def project_document(project: Project) -> Document:
    """A project of tasks."""
    return project.model_dump(mode="json")


def agent_document(agent: AgentRecord) -> Document:
    """A registered agent."""
    document = agent.model_dump(mode="json")
    return document | {"capabilities": sorted(document["capabilities"])}
