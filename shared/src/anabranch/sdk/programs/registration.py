"""Adds the agents that are programs to a registry: those of files, and the built-in ones that are on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from anabranch.sdk.agents import AgentDeclaration, Registry
from anabranch.sdk.programs.agent_files import not_callable, read_agent_file
from anabranch.sdk.programs.policy import ProgramPolicy
from anabranch.sdk.programs.program import BuiltinProgram
from anabranch.sdk.programs.spec import ProgramKind

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings


def add_programs(registry: Registry, settings: Settings) -> Registry:
    """Add the agents of the files that the settings name, and the built-in agents of the kinds that are on.

    Agents of a kind that is off are added as well, because other workers may run them: see `runnable`.

    Raises:
        Misconfigured: a file is invalid, or an agent has a name that is taken.
    """
    for each in settings.executors:
        registry.declare(_builtin(cast(ProgramKind, each), settings))
    for path in settings.agent_files:
        for declaration in read_agent_file(Path(path)):
            registry.declare(declaration)
    return registry


def _builtin(kind: ProgramKind, settings: Settings) -> AgentDeclaration:
    policy = ProgramPolicy(settings.executor_commands, settings.executor_images, settings.executor_namespaces)
    return AgentDeclaration(
        name=kind,
        handler=not_callable,
        is_async=True,
        place=f"the built-in agent {kind}",
        executor=kind,
        program=BuiltinProgram(kind, policy),
    )


def turned_off(registry: Registry, settings: Settings) -> Iterator[AgentDeclaration]:
    """The agents of a registry that a worker with these settings does not run."""
    for each in registry:
        if each.executor != "in-process" and each.executor not in settings.executors:
            yield each
