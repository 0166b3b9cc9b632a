"""Chooses the executor of an agent by its declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from anabranch.sdk.agents import AgentDeclaration, ExecutorKind
from anabranch.sdk.hooks import NO_HOOKS, Hooks
from anabranch_taskgroup.worker.executors.agent_threads import AgentThreads
from anabranch_taskgroup.worker.executors.hooked import HookedExecutor, in_one_thread
from anabranch_taskgroup.worker.executors.in_process import InProcessExecutor
from anabranch_taskgroup.worker.executors.protocol import MemberExecutor

# Programs are not among them: the executor of a program is that of one chunk, see `ChunkOpener`.
_EXECUTORS: Mapping[ExecutorKind, Callable[[AgentDeclaration, AgentThreads], MemberExecutor]] = {
    "in-process": InProcessExecutor,
}


def with_hooks(executor: MemberExecutor, threads: AgentThreads, hooks: Hooks) -> MemberExecutor:
    """An executor that calls the hooks around each attempt, if there are any."""
    return HookedExecutor(executor, hooks, threads) if hooks else executor


def executor_of(agent: AgentDeclaration, threads: AgentThreads, hooks: Hooks = NO_HOOKS) -> MemberExecutor:
    """A new executor of the kind that the agent's declaration names, which calls the hooks around each attempt."""
    kind = _EXECUTORS[agent.executor]
    if not hooks:
        return kind(agent, threads)
    if kind is InProcessExecutor and hooks.are_sync and not agent.is_async:
        return kind(replace(agent, handler=in_one_thread(hooks, agent.handler)), threads)
    return HookedExecutor(kind(agent, threads), hooks, threads)
