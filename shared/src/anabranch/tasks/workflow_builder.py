"""`WorkflowBuilder`: workflows step by step, and three workflows that are ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from anabranch.core.tasks.kinds import TaskType
from anabranch.tasks.workflow import StepType, Workflow, WorkflowCondition, WorkflowStep

Steps = Sequence[WorkflowStep | Mapping[str, Any]]


class WorkflowBuilder:
    """Builds a workflow: each `add_…` method adds a step and returns the builder; `build` returns the workflow.

    Steps in steps are `WorkflowStep`s, or their fields.
    """

    def __init__(
        self, name: str = "workflow", created_by: str = "system", description: str | None = None, **fields: Any
    ) -> None:
        """`fields`: further fields of the `Workflow`, such as `variables`."""
        self._fields = {"name": name, "created_by": created_by, "description": description, **fields}
        self._steps: list[WorkflowStep] = []

    def add_task_step(self, name: str, task_template: Mapping[str, Any] | None = None, **template: Any) -> Self:
        """Add a task.

        Args:
            task_template: `task_type` (the capability that its agent needs) or `assigned_to` (the agent),
                `description`, `metadata`, `execution_context` (inputs of the agent), `result_keys` (default: the
                name of the step), `timeout_seconds`, `retry`. Text may name variables and results of earlier steps
                in braces.
        """
        return self._add(name, StepType.TASK, task_template={**(task_template or {}), **template})

    def add_parallel_step(self, name: str, sub_steps: Steps) -> Self:
        """Add steps that run at the same time."""
        return self._add(name, StepType.PARALLEL, sub_steps=list(sub_steps))

    def add_sequential_step(self, name: str, sub_steps: Steps) -> Self:
        """Add steps that run one after another."""
        return self._add(name, StepType.SEQUENTIAL, sub_steps=list(sub_steps))

    def add_conditional_step(
        self, name: str, condition: WorkflowCondition, true_steps: Steps, false_steps: Steps = ()
    ) -> Self:
        """Add steps of which those in `true_steps` run if the condition is true, the others if it is false."""
        return self._add(
            name,
            StepType.CONDITIONAL,
            condition=condition,
            true_steps=list(true_steps),
            false_steps=list(false_steps),
        )

    def add_loop_step(
        self, name: str, loop_condition: WorkflowCondition, loop_steps: Steps, max_iterations: int = 100
    ) -> Self:
        """Repeat steps while a condition is true, at most `max_iterations` times.

        A variable of the workflow that a step in the loop has among its `result_keys` is changed by that step.
        """
        return self._add(
            name,
            StepType.LOOP,
            condition=loop_condition,
            sub_steps=list(loop_steps),
            max_iterations=max_iterations,
        )

    def add_wait_step(
        self,
        name: str,
        wait_seconds: float | None = None,
        wait_condition: WorkflowCondition | None = None,
        timeout_seconds: float | None = None,
    ) -> Self:
        """Wait for a time, or until a condition on a value of the run's session is true."""
        return self._add(
            name,
            StepType.WAIT,
            wait_seconds=wait_seconds,
            condition=wait_condition,
            timeout_seconds=timeout_seconds,
        )

    def add_step(self, step: WorkflowStep | Mapping[str, Any]) -> Self:
        """Add a step."""
        self._steps.append(WorkflowStep.model_validate(step))
        return self

    def set_variable(self, name: str, value: Any) -> Self:
        """Set a variable of the workflow."""
        self._fields["variables"] = {**self._fields.get("variables", {}), name: value}
        return self

    def build(self) -> Workflow:
        """The workflow."""
        return Workflow.model_validate({**self._fields, "steps": self._steps})

    def _add(self, name: str, kind: StepType, **fields: Any) -> Self:
        return self.add_step({"name": name, "step_type": kind, **fields})

    # --- workflows that are ready -----------------------------------------------------------------

    @classmethod
    def create_ci_cd_workflow(
        cls, name: str, created_by: str, repository_url: str, *, deploy: bool = True, environment: str = "staging"
    ) -> Workflow:
        """Analysis, tests side by side, build, and with `deploy` deployment and a check of it."""
        own = {"repository_url": "{repository_url}"}
        builder = cls(name, created_by, variables={"repository_url": repository_url, "should_deploy": deploy})
        builder.add_task_step("analysis", task_type=TaskType.CODE_ANALYSIS, execution_context=own)
        builder.add_parallel_step(
            "tests", [_tests("unit_tests", "unit"), _tests("integration_tests", "integration")]
        )
        builder.add_task_step(
            "build", task_type=TaskType.CODE_GENERATION, execution_context={**own, "action": "build"}
        )
        target = {**own, "environment": environment}
        return builder.add_conditional_step(
            "deployment",
            WorkflowCondition(field="should_deploy", value=True),
            true_steps=[
                task_step("deploy", TaskType.DEPLOYMENT, target),
                task_step("verify", TaskType.MONITORING, target),
            ],
        ).build()

    @classmethod
    def create_data_processing_workflow(cls, name: str, created_by: str, data_sources: Sequence[str]) -> Workflow:
        """Extraction from each source side by side, validation, transformation, loading.

        Raises:
            ValueError: there is no source.
        """
        extract = [
            task_step(f"extract_{place}", TaskType.CUSTOM, {"action": "extract", "source": source})
            for place, source in enumerate(data_sources, 1)
        ]
        if not extract:
            raise ValueError("a data processing workflow needs at least one of `data_sources`")
        builder = cls(name, created_by, variables={"data_sources": list(data_sources)})
        builder.add_parallel_step("extract", extract)
        for action in ("validate", "transform", "load"):
            builder.add_task_step(action, task_type=TaskType.CUSTOM, execution_context={"action": action})
        return builder.build()

    @classmethod
    def create_code_review_workflow(cls, name: str, created_by: str, pull_request_url: str) -> Workflow:
        """Analysis, reviews of quality and security side by side with the tests, and a summary."""
        own = {"pull_request_url": "{pull_request_url}"}
        builder = cls(name, created_by, variables={"pull_request_url": pull_request_url})
        builder.add_task_step("analysis", task_type=TaskType.CODE_ANALYSIS, execution_context=own)
        review = [
            task_step(f"{kind}_review", TaskType.CODE_REVIEW, {**own, "review_type": kind})
            for kind in ("quality", "security")
        ]
        builder.add_parallel_step("reviews", [*review, task_step("tests", TaskType.TESTING, own)])
        summary = {**own, "action": "summary", "quality": "{quality_review}", "security": "{security_review}"}
        return builder.add_task_step("summary", task_type=TaskType.CODE_REVIEW, execution_context=summary).build()


def task_step(name: str, task_type: TaskType, execution_context: Mapping[str, Any]) -> WorkflowStep:
    """A step that is a task."""
    return WorkflowStep(
        name=name, task_template={"task_type": task_type, "execution_context": dict(execution_context)}
    )


def _tests(name: str, test_type: str) -> WorkflowStep:
    return task_step(name, TaskType.TESTING, {"repository_url": "{repository_url}", "test_type": test_type})
