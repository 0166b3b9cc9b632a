"""Anabranch: fan tasks out over Kafka and join their results.

The names listed here are the public interface; everything else may change. Each is imported on first use, because
importing all of them is slow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anabranch.core.errors import AnabranchError as AnabranchError
    from anabranch.core.errors import AttemptTimeout as AttemptTimeout
    from anabranch.core.errors import ConditionError as ConditionError
    from anabranch.core.errors import ExpansionError as ExpansionError
    from anabranch.core.errors import GiveUp as GiveUp
    from anabranch.core.errors import Misconfigured as Misconfigured
    from anabranch.core.errors import Problem as Problem
    from anabranch.core.errors import RequestRefused as RequestRefused
    from anabranch.core.errors import ResultError as ResultError
    from anabranch.core.errors import RetryLater as RetryLater
    from anabranch.core.errors import RunCancelled as RunCancelled
    from anabranch.core.errors import RunFailed as RunFailed
    from anabranch.core.errors import RunNotCompleted as RunNotCompleted
    from anabranch.core.errors import RunTimedOut as RunTimedOut
    from anabranch.core.errors import ServerUnavailable as ServerUnavailable
    from anabranch.core.errors import StoreRefused as StoreRefused
    from anabranch.core.errors import TaskCancelled as TaskCancelled
    from anabranch.core.errors import ValueGone as ValueGone
    from anabranch.core.request.models import Expansion as Expansion
    from anabranch.core.request.models import Request as Request
    from anabranch.core.request.models import RetryPolicy as RetryPolicy
    from anabranch.core.request.models import Sequence as Sequence
    from anabranch.core.request.models import TaskGroup as TaskGroup
    from anabranch.core.request.models import TaskSpec as TaskSpec
    from anabranch.core.request.models import TransformRules as TransformRules
    from anabranch.sdk.agents import AgentDeclaration as AgentDeclaration
    from anabranch.sdk.agents import Registry as Registry
    from anabranch.sdk.agents import agent as agent
    from anabranch.sdk.approvals import Decision as Decision
    from anabranch.sdk.approvals import DecisionRefused as DecisionRefused
    from anabranch.sdk.client import Client as Client
    from anabranch.sdk.hooks import ExecutionOutcome as ExecutionOutcome
    from anabranch.sdk.hooks import after_execution as after_execution
    from anabranch.sdk.hooks import before_execution as before_execution
    from anabranch.sdk.run import Published as Published
    from anabranch.sdk.run import Run as Run
    from anabranch.sdk.run_result import RunResult as RunResult
    from anabranch.sdk.sync import SyncClient as SyncClient
    from anabranch.sdk.sync import SyncRun as SyncRun
    from anabranch.sdk.task import Task as Task
    from anabranch.sdk.workflow.builder import WorkflowBuilder as WorkflowBuilder
    from anabranch.sdk.workflow.places import WorkflowError as WorkflowError
    from anabranch.sdk.workflow.steps import Step as Step

__version__ = "0.1.0"

_HOMES = {
    "anabranch.core.errors": (
        "AnabranchError",
        "AttemptTimeout",
        "ConditionError",
        "ExpansionError",
        "GiveUp",
        "Misconfigured",
        "Problem",
        "RequestRefused",
        "ResultError",
        "RetryLater",
        "RunCancelled",
        "RunFailed",
        "RunNotCompleted",
        "RunTimedOut",
        "ServerUnavailable",
        "StoreRefused",
        "TaskCancelled",
        "ValueGone",
    ),
    "anabranch.core.request.models": (
        "Expansion",
        "Request",
        "RetryPolicy",
        "Sequence",
        "TaskGroup",
        "TaskSpec",
        "TransformRules",
    ),
    "anabranch.sdk.agents": ("AgentDeclaration", "Registry", "agent"),
    "anabranch.sdk.approvals": ("Decision", "DecisionRefused"),
    "anabranch.sdk.client": ("Client",),
    "anabranch.sdk.hooks": ("ExecutionOutcome", "after_execution", "before_execution"),
    "anabranch.sdk.run": ("Published", "Run"),
    "anabranch.sdk.run_result": ("RunResult",),
    "anabranch.sdk.sync": ("SyncClient", "SyncRun"),
    "anabranch.sdk.task": ("Task",),
    "anabranch.sdk.workflow.builder": ("WorkflowBuilder",),
    "anabranch.sdk.workflow.places": ("WorkflowError",),
    "anabranch.sdk.workflow.steps": ("Step",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'anabranch' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
