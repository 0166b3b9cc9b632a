"""How the agents of a plan are executed: by a call in the worker, or as a program. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from anabranch.core.programs import PROGRAM_KINDS, shown_program, summary
from anabranch.core.request.models import FINALLY, Request, TaskSpec

if TYPE_CHECKING:
    from anabranch.sdk.agents import AgentDeclaration

MAX_WARNINGS = 20
"""Maximum number of agents that warnings name."""


def add_executors(
    document: dict[str, Any],
    request: Request | None,
    agents: Iterable[AgentDeclaration],
    executors: Collection[str],
) -> None:
    """Add to each task of a plan its `executor`, and the `program` without secrets, as far as they are known; and
    a warning for each agent that no configured executor serves.

    Args:
        agents: the known agents. The built-in agents of programs are known without them.
        executors: the kinds of programs that the settings list.
    """
    declared = {each.name: each for each in agents}
    specs = {} if request is None else _specs(request)
    off: dict[str, str] = {}
    for task in document.get("tasks", ()):
        name = task["agent"]
        agent = declared.get(name)
        kind = _kind(name, agent)
        if kind is None:
            continue
        task["executor"] = kind
        program = agent.program.summary if agent is not None and agent.program is not None else None
        if program is None and kind in PROGRAM_KINDS:
            program = _requested(specs.get((task["group"], task["name"])))
        if program:
            task["program"] = program
        if kind in PROGRAM_KINDS:
            task["served"] = kind in executors
            if not task["served"]:
                off.setdefault(name, kind)
    document["warnings"] = [*document.get("warnings", ()), *_warnings(off)]


def shown_executor(task: dict[str, Any]) -> str:
    """The program of a task, for its line in the tree; nothing for an agent that is called."""
    kind = task.get("executor")
    if kind not in PROGRAM_KINDS:
        return ""
    off = "" if task["served"] else ", which no configured executor serves"
    return f"  as {shown_program(kind, task.get('program', {}))}{off}"


def _kind(name: str, agent: AgentDeclaration | None) -> str | None:
    if agent is not None:
        return agent.executor
    return name if name in PROGRAM_KINDS else None


def _specs(request: Request) -> dict[tuple[str, str], TaskSpec]:
    found = {(group.name, task.name): task for group in request.task_groups for task in group.tasks}
    return found | {(FINALLY, task.name): task for task in request.finally_}


def _requested(task: TaskSpec | None) -> dict[str, Any] | None:
    """The program that the inputs of a task name, for a built-in agent; None if they name none."""
    if task is None or not isinstance(task.inputs, dict):
        return None
    from anabranch.sdk.programs.documents import RequestedProgram

    try:
        found = RequestedProgram.model_validate(task.inputs)
    except ValidationError:
        return None  # the member fails with the reason; a placeholder may still become a valid value
    return summary(found.image, found.command, found.namespace)


def _warnings(off: dict[str, str]) -> list[str]:
    shown = [
        f"agent {name!r} is a program of kind {kind}, which no configured executor serves: add {kind} to the "
        "setting executors (ANABRANCH_EXECUTORS) of a worker"
        for name, kind in list(off.items())[:MAX_WARNINGS]
    ]
    more = len(off) - MAX_WARNINGS
    return [*shown, f"{more:,} more agents are programs that no configured executor serves"] if more > 0 else shown
