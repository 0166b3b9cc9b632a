"""`TaskFactory`: makes tasks of each type, pipelines and batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anabranch.core.tasks.kinds import TaskType
from anabranch.tasks.models import Task

BATCH_TAG = "batch"


class TaskFactory:
    """Makes tasks; nothing is created in the registry. Further arguments of each method are fields of the task."""

    @staticmethod
    def create_code_analysis_task(
        name: str, repository_url: str, analysis_type: str = "general", *, created_by: str, **fields: Any
    ) -> Task:
        """A task that analyses a repository."""
        own = {"repository_url": repository_url, "analysis_type": analysis_type}
        return _task(TaskType.CODE_ANALYSIS, name, created_by, own, fields)

    @staticmethod
    def create_code_generation_task(
        name: str, prompt: str, language: str | None = None, *, created_by: str, **fields: Any
    ) -> Task:
        """A task that writes code for a prompt."""
        return _task(TaskType.CODE_GENERATION, name, created_by, {"prompt": prompt, "language": language}, fields)

    @staticmethod
    def create_code_review_task(
        name: str, pull_request_url: str, review_type: str = "general", *, created_by: str, **fields: Any
    ) -> Task:
        """A task that reviews a pull request."""
        own = {"pull_request_url": pull_request_url, "review_type": review_type}
        return _task(TaskType.CODE_REVIEW, name, created_by, own, fields)

    @staticmethod
    def create_testing_task(
        name: str,
        repository_url: str | None = None,
        test_command: str | Sequence[str] | None = None,
        test_type: str = "unit",
        *,
        created_by: str,
        **fields: Any,
    ) -> Task:
        """A task that runs tests."""
        own = {"repository_url": repository_url, "test_command": test_command, "test_type": test_type}
        return _task(TaskType.TESTING, name, created_by, own, fields)

    @staticmethod
    def create_deployment_task(
        name: str, environment: str, version: str | None = None, *, created_by: str, **fields: Any
    ) -> Task:
        """A task that deploys to an environment."""
        own = {"environment": environment, "version": version}
        return _task(TaskType.DEPLOYMENT, name, created_by, own, fields)

    @staticmethod
    def create_monitoring_task(
        name: str, target: str, metrics: Sequence[str] = (), *, created_by: str, **fields: Any
    ) -> Task:
        """A task that measures a target."""
        return _task(TaskType.MONITORING, name, created_by, {"target": target, "metrics": list(metrics)}, fields)

    @staticmethod
    def create_workflow_task(
        name: str, workflow: Mapping[str, Any] | None = None, *, created_by: str, **fields: Any
    ) -> Task:
        """A task whose agent runs a workflow, given as a document."""
        own = {} if workflow is None else {"workflow": dict(workflow)}
        return _task(TaskType.WORKFLOW, name, created_by, own, fields)

    @staticmethod
    def create_custom_task(name: str, *, created_by: str, **fields: Any) -> Task:
        """A task of the type `custom`."""
        return _task(TaskType.CUSTOM, name, created_by, {}, fields)

    @staticmethod
    def create_pipeline(
        stages: Sequence[Task | Mapping[str, Any] | Sequence[Task | Mapping[str, Any]]],
        *,
        created_by: str = "system",
        **fields: Any,
    ) -> list[Task]:
        """Tasks in stages: each task depends on all tasks of the stage before it.

        Args:
            stages: tasks, fields of tasks, or lists of these, whose tasks run side by side.
        """
        made: list[Task] = []
        before: list[Task] = []
        for stage in stages:
            given = [stage] if isinstance(stage, (Task, Mapping)) else list(stage)
            now = [_made(each, created_by, fields) for each in given]
            for task in now:
                for needed in before:
                    task.add_dependency(needed.id)
            made += now
            before = now or before
        return made

    create_pipeline_tasks = create_pipeline

    @staticmethod
    def create_batch(
        tasks: Iterable[Task | Mapping[str, Any]], *, created_by: str = "system", **fields: Any
    ) -> list[Task]:
        """Tasks that do not depend on each other, with the tag `batch` and `metadata.batch_size`."""
        made = [_made(each, created_by, fields) for each in tasks]
        for task in made:
            task.tags = {*task.tags, BATCH_TAG}
            task.metadata = {**task.metadata, "batch_size": len(made)}
        return made

    create_batch_tasks = create_batch


def _task(
    task_type: TaskType, name: str, created_by: str, own: Mapping[str, Any], fields: Mapping[str, Any]
) -> Task:
    """A task whose metadata and execution context have its own values; those of the caller take precedence."""
    values = {key: value for key, value in own.items() if value is not None}
    rest = {key: value for key, value in fields.items() if key not in ("metadata", "execution_context")}
    return Task(
        name=name,
        task_type=task_type,
        created_by=created_by,
        metadata={**values, **(fields.get("metadata") or {})},
        execution_context={**values, **(fields.get("execution_context") or {})},
        **rest,
    )


def _made(given: Task | Mapping[str, Any], created_by: str, fields: Mapping[str, Any]) -> Task:
    if isinstance(given, Task):
        return given
    return Task.model_validate({"created_by": created_by, **fields, **given})
