"""Builds the OpenAPI 3.1 document: models of all bodies and responses, examples, and error responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from anabranch.core.request.models import Request as RunRequest
from anabranch.core.schedules.models import Schedule
from anabranch.core.tasks.models import TaskChanges
from anabranch_gateway.api import (
    execution_models,
    models,
    schedule_models,
    subscription_models,
    task_models,
    wait_models,
    worker_models,
)
from anabranch_gateway.http.problems import MEDIA_TYPE

JSON = "application/json"
YAML = "application/yaml"
SSE = "text/event-stream"
_REF = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        responses: the model of each response by HTTP status; None for a response without one.
        body: the model of the request body.
        problems: HTTP statuses of its error responses, besides those that every operation has.
        streams: it can also respond with Server-Sent Events.
        draws: it can also respond with plain text.
    """

    responses: Mapping[int, type[BaseModel] | None]
    body: type[BaseModel] | None = None
    problems: tuple[int, ...] = ()
    streams: bool = False
    draws: bool = False
    is_body_required: bool = True


_RUN = (404,)
_BODY = (408, 413, 422)
_TASKS = (501,)
_CONTROL = Operation({202: models.Controlled}, models.ControlBody, (*_RUN, 409, *_BODY), is_body_required=False)
_OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("/v1/runs", "post"): Operation(
        {200: models.Outcome, 202: models.Accepted}, RunRequest, (400, 409, 410, *_BODY)
    ),
    ("/v1/plan", "post"): Operation({200: models.PlanDocument}, RunRequest, _BODY),
    ("/v1/runs", "get"): Operation({200: models.RunPage}),
    ("/v1/runs/{run}", "get"): Operation({200: models.ViewDocument}, None, _RUN),
    ("/v1/runs/{run}/graph", "get"): Operation({200: models.GraphDocument}, None, (*_RUN, 409, 410)),
    ("/v1/runs/{run}/request", "get"): Operation({200: RunRequest}, None, (*_RUN, 409, 410)),
    ("/v1/runs/{run}/result", "get"): Operation({200: models.Outcome}, None, (*_RUN, 409, 410)),
    ("/v1/runs/{run}/results/{key}", "get"): Operation({200: models.ResultValue}, None, (*_RUN, 409, 410, 413)),
    ("/v1/runs/{run}/cancel", "post"): _CONTROL,
    ("/v1/runs/{run}/terminate", "post"): _CONTROL,
    ("/v1/runs/{run}/pause", "post"): _CONTROL,
    ("/v1/runs/{run}/resume", "post"): _CONTROL,
    ("/v1/runs/{run}/signals/{name}", "post"): Operation(
        {202: wait_models.Signalled}, wait_models.SignalBody, (*_RUN, 409, *_BODY), is_body_required=False
    ),
    ("/v1/runs/{run}/approvals/{group}/{task}", "post"): Operation(
        {200: wait_models.Decided}, wait_models.DecisionBody, (*_RUN, 409, 410, *_BODY), is_body_required=False
    ),
    ("/v1/approvals", "get"): Operation({200: models.Inbox}),
    ("/v1/runs/{run}/retry", "post"): Operation(
        {202: models.Accepted}, models.RetryBody, (*_RUN, 409, *_BODY), is_body_required=False
    ),
    ("/v1/runs/{run}/fork", "post"): Operation({202: models.Accepted}, models.ForkBody, (*_RUN, 409, *_BODY)),
    ("/v1/runs/{run}/events", "get"): Operation({200: models.EventPage}, None, _RUN, streams=True),
    ("/v1/runs/{run}/members", "get"): Operation({200: models.MemberPage}, None, (*_RUN, 409, 410)),
    ("/v1/runs/{run}/heatmap", "get"): Operation({200: models.Heatmap}, None, (*_RUN, 409, 410)),
    ("/v1/runs/{run}/members/{group}/{task}/{index}", "get"): Operation(
        {200: models.MemberDocument}, None, (*_RUN, 409, 410)
    ),
    ("/v1/runs/{run}/logs", "get"): Operation({200: models.LogPage}, None, _RUN),
    ("/v1/runs/{run}/context", "get"): Operation({200: models.ContextDocument}, None, _RUN),
    ("/v1/runs/{run}/context/diff", "get"): Operation({200: models.ContextDifference}, None, _RUN),
    ("/v1/runs/{run}/why", "get"): Operation({200: models.Why}, None, (*_RUN, 501)),
    ("/v1/runs/{run}/heal", "post"): Operation({200: models.Why}, None, (*_RUN, 501)),
    ("/v1/events", "post"): Operation({202: wait_models.PublishedEvent}, wait_models.EventBody, _BODY),
    ("/v1/events", "get"): Operation({200: None}, streams=True),
    ("/v1/dead-letters", "get"): Operation({200: models.LetterPage}),
    ("/v1/dead-letters/groups", "get"): Operation({200: models.LetterGroups}),
    ("/v1/dead-letters/{letter_id}", "get"): Operation({200: models.LetterLine}, None, _RUN),
    ("/v1/dead-letters/redrive", "post"): Operation(
        {200: models.DecisionDocument}, models.LetterChoice, (*_RUN, *_BODY)
    ),
    ("/v1/dead-letters/dismiss", "post"): Operation(
        {200: models.DecisionDocument}, models.LetterChoice, (*_RUN, *_BODY)
    ),
    ("/v1/subscriptions", "get"): Operation({200: subscription_models.SubscriptionList}),
    ("/v1/subscriptions", "post"): Operation(
        {201: subscription_models.SubscriptionDocument}, subscription_models.SubscriptionBody, (*_RUN, 409, *_BODY)
    ),
    ("/v1/subscriptions/{subscription_id}", "get"): Operation(
        {200: subscription_models.SubscriptionDocument}, None, _RUN
    ),
    ("/v1/subscriptions/{subscription_id}", "delete"): Operation({204: None}, None, _RUN),
    ("/v1/definitions", "get"): Operation({200: models.DefinitionList}),
    ("/v1/definitions", "post"): Operation({201: models.DefinitionDocument}, models.DefinitionBody, (409, *_BODY)),
    ("/v1/definitions/{reference}", "get"): Operation({200: models.DefinitionDocument}, None, _RUN),
    ("/v1/schedules", "get"): Operation({200: schedule_models.ScheduleList}),
    ("/v1/schedules", "post"): Operation({201: schedule_models.ScheduleDocument}, Schedule, _BODY),
    ("/v1/schedules/{schedule}", "put"): Operation({200: schedule_models.ScheduleDocument}, Schedule, _BODY),
    ("/v1/schedules/{schedule}", "get"): Operation({200: schedule_models.ScheduleDocument}, None, _RUN),
    ("/v1/schedules/{schedule}", "delete"): Operation({200: schedule_models.ScheduleDeleted}, None, _RUN),
    ("/v1/schedules/{schedule}/{action}", "post"): Operation(
        {200: schedule_models.ScheduleDocument},
        schedule_models.ScheduleAction,
        (*_RUN, *_BODY),
        is_body_required=False,
    ),
    ("/graphql", "get"): Operation({200: None}, None, (501,)),
    ("/graphql", "post"): Operation({200: models.GraphQLResult}, models.GraphQLQuery, (501, *_BODY)),
    ("/v1/tasks", "get"): Operation({200: task_models.TaskPage}, None, _TASKS),
    ("/v1/tasks", "post"): Operation(
        {201: task_models.TasksCreated}, task_models.TaskBody, (409, *_TASKS, *_BODY)
    ),
    ("/v1/tasks/graph", "get"): Operation({200: task_models.TaskGraph}, None, (*_RUN, *_TASKS), draws=True),
    ("/v1/tasks/plan", "get"): Operation({200: task_models.TaskPlan}, None, (*_RUN, *_TASKS)),
    ("/v1/tasks/reports/{report}", "get"): Operation({200: task_models.TaskReport}, None, _TASKS),
    ("/v1/tasks/{task}", "get"): Operation({200: task_models.TaskDocument}, None, (*_RUN, *_TASKS)),
    ("/v1/tasks/{task}", "patch"): Operation(
        {200: task_models.TaskDocument}, TaskChanges, (*_RUN, 409, *_TASKS, *_BODY)
    ),
    ("/v1/tasks/{task}", "delete"): Operation({204: None}, None, (*_RUN, 409, *_TASKS)),
    ("/v1/tasks/{task}/execute", "post"): Operation(
        {202: task_models.TaskExecutionDocument},
        task_models.ExecuteBody,
        (*_RUN, 409, *_TASKS, *_BODY),
        is_body_required=False,
    ),
    ("/v1/tasks/{task}/retry", "post"): Operation(
        {202: task_models.TaskExecutionDocument},
        task_models.RetryTaskBody,
        (*_RUN, 409, *_TASKS, *_BODY),
        is_body_required=False,
    ),
    ("/v1/tasks/{task}/cancel", "post"): Operation(
        {200: task_models.TaskCancelled}, task_models.CancelTaskBody, (*_TASKS, *_BODY), is_body_required=False
    ),
    ("/v1/tasks/{task}/executions", "get"): Operation(
        {200: task_models.TaskExecutionList}, None, (*_RUN, *_TASKS)
    ),
    ("/v1/tasks/{task}/executions/{number}", "get"): Operation(
        {200: task_models.TaskExecutionDocument}, None, (*_RUN, *_TASKS)
    ),
    ("/v1/projects", "get"): Operation({200: task_models.ProjectList}, None, _TASKS),
    ("/v1/projects", "post"): Operation(
        {201: task_models.ProjectDocument}, task_models.ProjectBody, (*_TASKS, *_BODY)
    ),
    ("/v1/projects/{project}", "get"): Operation({200: task_models.ProjectDocument}, None, (*_RUN, *_TASKS)),
    ("/v1/task-agents", "get"): Operation({200: task_models.TaskAgentList}, None, _TASKS),
    ("/v1/task-agents/{agent}", "put"): Operation(
        {200: task_models.TaskAgentDocument}, task_models.TaskAgentBody, (*_TASKS, *_BODY), is_body_required=False
    ),
    ("/v1/task-agents/{agent}", "delete"): Operation({204: None}, None, (*_RUN, *_TASKS)),
    ("/v1/executions", "get"): Operation({200: execution_models.ExecutionPage}, None, _TASKS),
    ("/v1/executions", "post"): Operation(
        {201: execution_models.Scheduled}, execution_models.ExecutionBody, (*_TASKS, *_BODY)
    ),
    ("/v1/executions/stats", "get"): Operation({200: execution_models.ExecutionStatistics}, None, _TASKS),
    ("/v1/executions/{execution}", "get"): Operation(
        {200: execution_models.ExecutionDocument}, None, (*_RUN, *_TASKS)
    ),
    ("/v1/executions/{execution}/cancel", "post"): Operation(
        {200: execution_models.ExecutionCancelled},
        execution_models.CancelExecutionBody,
        (*_RUN, *_TASKS, *_BODY),
        is_body_required=False,
    ),
    ("/v1/audit", "get"): Operation({200: models.AuditPage}),
    ("/v1/whoami", "get"): Operation({200: models.Whoami}),
    ("/v1/system", "get"): Operation({200: models.SystemDocument}),
    ("/v1/workers", "get"): Operation({200: worker_models.WorkerList}),
    ("/v1/backlog", "get"): Operation({200: worker_models.AnyBacklog}, None, (422,)),
    ("/v1/agents", "get"): Operation({200: worker_models.AgentList}),
    ("/v1/limits", "get"): Operation({200: worker_models.LimitList}, None, (501,)),
    ("/v1/breakers/{agent}/{action}", "post"): Operation(
        {202: worker_models.BreakerDocument}, models.ControlBody, _BODY, is_body_required=False
    ),
}

_PROBLEM_DESCRIPTIONS = {
    400: "The request cannot be read as HTTP: its head, path or host is malformed",
    401: "The credential is missing or not valid",
    403: "The caller's role or projects do not permit it",
    404: "It does not exist, or the caller cannot see it",
    408: "The body was not complete in time",
    409: "Conflict with the current state: the run has ended, or is open; the request id was used before",
    410: "It has expired",
    413: "The body or the value is too large",
    422: "The request is invalid: `errors` has all errors",
    501: "This gateway was built without it",
    503: "Kafka or Redis is unavailable, or too many bodies are being parsed: retry later",
}
_EVERYWHERE = (400, 401, 403, 422, 503)

_TASK = {"name": "shout", "agent": "echo", "message_template": "{word}!", "result_keys": ["shouted"]}
_EXPANSION = {"dependencies": ["words"], "expansion_config": {"type": "array", "array_mapping": {"word": "words"}}}
_REQUEST = {
    "request_id": "order-4711",
    "context": {"words": ["river", "branch", "stream"]},
    "task_groups": [{"name": "shouting", "tasks": [{**_TASK, **_EXPANSION}]}],
}
_EXAMPLES: Mapping[type[BaseModel], Any] = {
    RunRequest: _REQUEST,
    models.ForkBody: {"from": ["prices"], "set": {"currency": "EUR"}},
    models.DefinitionBody: {"name": "order", "version": "3", "request": _REQUEST},
    Schedule: {"id": "nightly", "cron": ["30 2 * * *"], "timezone": "Europe/Berlin", "request": _REQUEST},
    schedule_models.ScheduleAction: {"reason": "the import was late"},
    models.ControlBody: {"reason": "the import is no longer needed"},
    models.RetryBody: {"request_id": "order-4711-again"},
    wait_models.EventBody: {"name": "paid", "key": "order-4711", "id": "payment-1", "data": {"amount": 12}},
    wait_models.SignalBody: {"value": {"amount": 12}, "signal_id": "payment-1"},
    wait_models.DecisionBody: {"decision": "approve", "comment": "fine"},
    models.GraphQLQuery: {"query": '{ runs(first: 5, status: "failed") { nodes { id failures { message } } } }'},
    task_models.TaskBody: {"name": "Analyze", "task_type": "code_analysis", "priority": "high"},
    TaskChanges: {"priority": "urgent", "assigned_to": "reviewer"},
    task_models.ExecuteBody: {"agent_id": "reviewer"},
    task_models.RetryTaskBody: {},
    task_models.CancelTaskBody: {"reason": "no longer needed"},
    execution_models.ExecutionBody: {
        "task_id": "01a22ff5-85c5-72ef-a5b8-c5fc61cbad40",
        "workflow_params": {"inputs": {"path": "/data"}},
        "retry_strategy": "fibonacci_backoff",
    },
    execution_models.CancelExecutionBody: {"reason": "no longer needed"},
    task_models.ProjectBody: {"name": "Release 2"},
    task_models.TaskAgentBody: {"agent_type": "claude", "capabilities": ["code_review"]},
    models.LetterChoice: {"signature": "007a743ed38c6358"},
    subscription_models.SubscriptionBody: {
        "kind": "webhook",
        "url": "https://example.com/hook",
        "types": ["run.*"],
    },
}
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key `anb_<id>_<secret>`, or an OIDC access token. An open gateway needs none.",
}
_PROBLEM_EXAMPLE = {
    "type": "urn:anabranch:problem:not_found",
    "title": "Not Found",
    "status": 404,
    "detail": "no such run: order-4711: give a run id or a request id; the run may have expired",
    "instance": "/v1/runs/order-4711",
    "code": "not_found",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document. Every route must be in `_OPERATIONS`."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=app.description,
        routes=app.routes,
    )
    schemas_by_name = document.setdefault("components", {}).setdefault("schemas", {})
    # FastAPI describes the parameters only: bodies and responses are read and written without its models.
    schemas_by_name.clear()
    schemas_by_name.update(_components())
    document["components"]["securitySchemes"] = {"bearer": _BEARER}
    # Either a credential or none: an open gateway needs none.
    document["security"] = [{"bearer": []}, {}]
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            _complete(described, _OPERATIONS[path, method])
    return document


def _components() -> dict[str, Any]:
    used = {each.body for each in _OPERATIONS.values()} | {models.ProblemDocument}
    used |= {model for each in _OPERATIONS.values() for model in each.responses.values()}
    wanted = sorted((each for each in used if each is not None), key=lambda each: each.__name__)
    _, found = models_json_schema([(each, "validation") for each in wanted], ref_template=_REF + "{model}")
    defined: dict[str, Any] = found["$defs"]
    return defined


def _complete(described: dict[str, Any], operation: Operation) -> None:
    described["responses"] = {
        **{str(status): _response(status, model, operation) for status, model in operation.responses.items()},
        **{str(status): _problem(status) for status in sorted({*operation.problems, *_EVERYWHERE})},
    }
    if operation.body is not None:
        content = {"schema": {"$ref": _REF + operation.body.__name__}, "example": _EXAMPLES[operation.body]}
        kinds = (JSON, YAML) if operation.body is RunRequest else (JSON,)
        described["requestBody"] = {
            "required": operation.is_body_required,
            "content": dict.fromkeys(kinds, content),
        }


def _response(status: int, model: type[BaseModel] | None, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"description": "Success" if status == 200 else "Accepted"}
    content: dict[str, Any] = {}
    if model is not None:
        content[JSON] = {"schema": {"$ref": _REF + model.__name__}}
    if operation.streams:
        content[SSE] = {"schema": {"type": "string"}}
    if operation.draws:
        content["text/plain"] = {"schema": {"type": "string"}}
    if content:
        described["content"] = content
    if status in (201, 202) and model is not models.Controlled:
        described["headers"] = {"Location": {"schema": {"type": "string"}}}
    return described


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": _REF + models.ProblemDocument.__name__}
    content: dict[str, Any] = {"schema": schema}
    if status == 404:
        content["example"] = _PROBLEM_EXAMPLE
    described: dict[str, Any] = {"description": _PROBLEM_DESCRIPTIONS[status], "content": {MEDIA_TYPE: content}}
    if status == 401:
        described["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return described
