"""What `from anabranch import ...` offers: a change here is a change of what users depend on."""

from __future__ import annotations

import subprocess
import sys

import anabranch


def test_the_public_surface_is_exactly_this() -> None:
    assert anabranch.__all__ == [
        "AgentDeclaration",
        "AnabranchError",
        "AttemptTimeout",
        "Client",
        "ConditionError",
        "Decision",
        "DecisionRefused",
        "ExecutionOutcome",
        "Expansion",
        "ExpansionError",
        "GiveUp",
        "Misconfigured",
        "Problem",
        "Published",
        "Registry",
        "Request",
        "RequestRefused",
        "ResultError",
        "RetryLater",
        "RetryPolicy",
        "Run",
        "RunCancelled",
        "RunFailed",
        "RunNotCompleted",
        "RunResult",
        "RunTimedOut",
        "Sequence",
        "ServerUnavailable",
        "Step",
        "StoreRefused",
        "SyncClient",
        "SyncRun",
        "Task",
        "TaskCancelled",
        "TaskGroup",
        "TaskSpec",
        "TransformRules",
        "ValueGone",
        "WorkflowBuilder",
        "WorkflowError",
        "__version__",
        "after_execution",
        "agent",
        "before_execution",
    ]


def test_every_public_name_is_there_and_documented() -> None:
    undocumented = [name for name in anabranch.__all__ if not getattr(anabranch, name).__doc__]

    assert undocumented == []


def test_importing_the_package_and_the_command_loads_no_heavy_library() -> None:
    heavy = {"pydantic", "confluent_kafka", "redis", "faust", "rich.console", "asyncio"}
    script = "import sys, anabranch, anabranch.cli.main; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert heavy & set(loaded.split()) == set()
