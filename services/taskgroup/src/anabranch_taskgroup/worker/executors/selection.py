"""Chooses the executor of an agent by its declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from anabranch.sdk.agents import AgentDeclaration, ExecutorKind
from anabranch_taskgroup.worker.executors.agent_threads import AgentThreads
from anabranch_taskgroup.worker.executors.in_process import InProcessExecutor
from anabranch_taskgroup.worker.executors.protocol import MemberExecutor

_EXECUTORS: Mapping[ExecutorKind, Callable[[AgentDeclaration, AgentThreads], MemberExecutor]] = {
    "in-process": InProcessExecutor,
}


def executor_of(agent: AgentDeclaration, threads: AgentThreads) -> MemberExecutor:
    """A new executor of the kind that the agent's declaration names."""
    return _EXECUTORS[agent.executor](agent, threads)
