"""What an execution does when it gets a slot: it starts a run, or it ends at once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anabranch.core.executions.drafts import inputs_of, is_program
from anabranch.core.executions.kinds import RetryStrategy
from anabranch.core.tasks.availability import PROGRAM_KINDS, Availability
from anabranch.core.tasks.decisions import CAPABILITY
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.models import TaskExecution
from anabranch.core.tasks.outcomes import RESULT, Outcome
from anabranch.core.tasks.requests import run_name

INPUTS = "execution_inputs"
"""The context key of what the agent gets. Text of users in it is not taken for a placeholder."""
IGNORE_IMAGE = "ignore_image"
PROCESS = "process"
ENDS_WITH = "ends_with"
"""In the data of an execution that started no run: how it ends."""
_PROGRAM_FIELDS = ("command", "env", "resources", "input", "output", "namespace")
_TASK_FIELDS = ("cache", "requires", "estimate")
_REQUEST_FIELDS = ("budget", "pool", "fairness_key")


@dataclass(frozen=True, slots=True)
class StartPlan:
    """How an execution starts.

    Attributes:
        agent: the agent that counts as running it; None for none.
        request: of its run; None if it starts none.
        outcome: how it ends, if it starts no run.
    """

    agent: str | None = None
    request: Mapping[str, Any] | None = None
    outcome: Outcome | None = None


def plan_start(execution: TaskExecution, agents: Availability, running: Mapping[str, int]) -> StartPlan:
    """How an execution starts, with these agents: a request of its own, the program or the agent that it names,
    the agent of its task's type, or nothing, in which case it completes with its inputs."""
    params = execution.data.get("workflow_params") or {}
    if (given := params.get("request")) is not None:
        return StartPlan(request=_of_request(execution, given, inputs_of(params)))
    if execution.wants:
        agent = agents.choose(execution.wants, running)
        if is_program(inputs_of(params)) and not isinstance(params.get("agent"), str):
            return _of_program(execution, agents)
    else:
        agent = agents.choose(CAPABILITY + str(execution.data["task"]["task_type"]), running)
    if agent is None:
        return StartPlan(outcome=Outcome(ExecutionStatus.COMPLETED, inputs_of(params)))
    task = execution.data["task"]
    inputs = {
        **(task.get("execution_context") or {}),
        **inputs_of(params),
        "task": {name: value for name, value in task.items() if name != "execution_context"}
        | {"execution_id": str(execution.id), "execution_number": execution.execution_number},
    }
    return StartPlan(agent, _of_agent(execution, agents.served_by[agent], inputs, agents.has_offers))


def _of_program(execution: TaskExecution, agents: Availability) -> StartPlan:
    inputs = inputs_of(execution.data["workflow_params"])
    image = inputs.pop("container_image", None) or inputs.pop("image", None)
    kinds = [each for each in PROGRAM_KINDS if each in agents.served_by]
    kind = kinds[0]
    if image and kind == PROCESS and not inputs.get(IGNORE_IMAGE):
        return _refused(
            kind,
            f"the executor `process` runs no image, and {image!r} is named: "
            "configure the executor `container` or `kubernetes`, or set `ignore_image` in the inputs",
        )
    if not image and PROCESS not in kinds:
        return _refused(kind, f"the executor `{kind}` needs an image: name it as `container_image` of the inputs")
    kind = kind if image else PROCESS
    program = {name: inputs.pop(name) for name in _PROGRAM_FIELDS if inputs.get(name) is not None}
    program.setdefault("output", "last-line")
    if kind != PROCESS:
        program["image"] = image
    inputs.pop(IGNORE_IMAGE, None)
    if inputs:
        program["inputs"] = inputs
    return StartPlan(kind, _of_agent(execution, agents.served_by[kind], program, agents.has_offers))


def _refused(agent: str, message: str) -> StartPlan:
    error = {"error_type": "ExecutorRefused", "message": message}
    return StartPlan(agent, outcome=Outcome(ExecutionStatus.FAILED, error=error))


def _of_agent(execution: TaskExecution, agent: str, inputs: Mapping[str, Any], has_offers: bool) -> dict[str, Any]:
    params = execution.data["workflow_params"]
    left_out = () if has_offers else ("requires",)
    task = {
        "name": "task",
        "agent": agent,
        "result_keys": [RESULT],
        "inputs": f"{{{INPUTS}}}",
        "retry": retry_policy(execution.data),
        **{name: params[name] for name in _TASK_FIELDS if name in params and name not in left_out},
    }
    request = {"context": {INPUTS: dict(inputs)}, "task_groups": [{"name": "execution", "tasks": [task]}]}
    return _with_own_fields(execution, {**request, **{k: params[k] for k in _REQUEST_FIELDS if k in params}})


def _of_request(execution: TaskExecution, given: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The request with the inputs in its context, and the retry policy at each task that has an agent and none."""
    policy = retry_policy(execution.data)
    request = dict(given)
    request["context"] = {**(given.get("context") or {}), **inputs}
    groups = given.get("task_groups")
    if isinstance(groups, list) and policy["strategy"] != "none":
        request["task_groups"] = [_with_policy(group, policy) for group in groups]
    return _with_own_fields(execution, request)


def _with_policy(group: Any, policy: Mapping[str, Any]) -> Any:
    if not isinstance(group, Mapping) or not isinstance(tasks := group.get("tasks"), list):
        return group
    with_policy = [
        {"retry": policy, **task} if isinstance(task, Mapping) and isinstance(task.get("agent"), str) else task
        for task in tasks
    ]
    return {**group, "tasks": with_policy}


def _with_own_fields(execution: TaskExecution, request: Mapping[str, Any]) -> dict[str, Any]:
    data = execution.data
    labels = {"execution_id": str(execution.id), "task_id": str(execution.task_id)}
    fields = {
        **request,
        "request_id": execution.request_id,
        "name": run_name(data["task"]["name"]),
        "project": execution.owner,
        "labels": {**(request.get("labels") or {}), **labels, "workflow_type": data["workflow_type"]},
        "priority": int(execution.priority),
    }
    if data.get("timeout") is not None:
        fields["timeout"] = data["timeout"]
    return fields


def retry_policy(data: Mapping[str, Any]) -> dict[str, Any]:
    """The retry policy of the request of an execution with this data."""
    strategy = RetryStrategy(data["retry_strategy"])
    if strategy == RetryStrategy.NONE or not data["max_retries"]:
        return {"strategy": "none", "max_attempts": 1}
    return {"strategy": strategy.policy, "max_attempts": data["max_retries"] + 1, "delay": data["retry_delay"]}


def outcome_in(execution: TaskExecution) -> Outcome | None:
    """How an execution ends that started no run; None if it started one."""
    kept = execution.data.get(ENDS_WITH)
    return None if kept is None else Outcome(ExecutionStatus(kept["status"]), kept["result"], kept["error"])


def data_with(execution: TaskExecution, outcome: Outcome) -> dict[str, Any]:
    """The data of an execution that starts no run: whoever finds it later ends it in the same way."""
    error = None if outcome.error is None else dict(outcome.error)
    kept = {"status": str(outcome.status), "result": outcome.result, "error": error}
    return {**execution.data, ENDS_WITH: kept}
