"""Reads files that declare agents which are programs: `{name: {kind, command, ...}}`, as YAML or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from anabranch.core.errors import Code, GiveUp, Misconfigured, Problem, RequestRefused
from anabranch.core.names import name_problem
from anabranch.core.request.document import Document
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.limits import Breaker
from anabranch.core.request.models import RetryPolicy
from anabranch.core.request.schema_errors import schema_problems
from anabranch.sdk.agents import AgentDeclaration
from anabranch.sdk.described import capabilities_of, version_of
from anabranch.sdk.programs.documents import DeclaredAgent, Resources, spec_problem
from anabranch.sdk.programs.program import DeclaredProgram
from anabranch.sdk.request_file import read_document
from anabranch.sdk.task import Task

MAX_SHOWN = 10
"""Problems that one message names."""
_MODELS: Mapping[str, type[Document]] = {
    "": DeclaredAgent,
    "resources": Resources,
    "retry": RetryPolicy,
    "breaker": Breaker,
}


def read_agent_file(path: Path) -> list[AgentDeclaration]:
    """The agents of a file.

    Raises:
        Misconfigured: the file cannot be read, or an agent is invalid; with every problem, its line and its path.
    """
    try:
        document = read_document(path)
    except RequestRefused as refused:
        raise _misconfigured(path, refused.errors, {}) from None
    lines = _lines(path)
    problems = list(file_problems(document))
    if problems:
        raise _misconfigured(path, problems, lines)
    return [
        _declaration(name, DeclaredAgent.model_validate(each), f"{path}:{lines.get(f'/{_escaped(name)}', 1)}")
        for name, each in document.items()
    ]


def file_problems(document: Any) -> Iterator[Problem]:
    """Every problem of a document of agents, with its path."""
    if not isinstance(document, Mapping) or not document:
        yield Problem(Code.SCHEMA, "", "must be an object {name: {kind, command, ...}}", "name at least one agent")
        return
    for name, each in document.items():
        at = f"/{_escaped(name)}"
        if problem := name_problem(name):
            yield Problem(Code.BAD_NAME, at, f"the name of an agent {problem}")
        if not isinstance(each, Mapping):
            yield Problem(Code.SCHEMA, at, "must be an object {kind, command, ...}")
            continue
        for found in _agent_problems(name, each):
            yield Problem(found.code, at + found.path, found.message, found.hint)


def _agent_problems(name: str, document: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        agent = DeclaredAgent.model_validate(document)
    except ValidationError as error:
        yield from schema_problems(error, document, json_pointer, _MODELS)
        return
    if (problem := spec_problem(agent.spec)) is not None:
        field, reason, fix = problem
        yield Problem(Code.SCHEMA, f"/{field}" if field in document else "", f"{field} {reason}", fix)
    for field, check in (("capabilities", capabilities_of), ("version", version_of)):
        try:
            check(name, getattr(agent, field))
        except ValueError as error:
            yield Problem(Code.SCHEMA, f"/{field}", str(error))


def _declaration(name: str, agent: DeclaredAgent, place: str) -> AgentDeclaration:
    return AgentDeclaration(
        name=name,
        handler=not_callable,
        is_async=True,
        retry=agent.retry,
        timeout=agent.timeout,
        max_concurrency=agent.max_concurrency,
        place=place,
        executor=agent.kind,
        version=version_of(name, agent.version),
        capabilities=capabilities_of(name, agent.capabilities),
        input_schema=agent.input_schema,
        output_schema=agent.output_schema,
        breaker=agent.breaker,
        program=DeclaredProgram(agent.spec),
    )


async def not_callable(task: Task) -> Any:
    """The handler of an agent that is a program. Nothing calls it: an executor runs the program."""
    raise GiveUp(f"the agent of {task.name} is a program, and cannot be called as a function")


def _misconfigured(
    path: Path, problems: list[Problem] | tuple[Problem, ...], lines: Mapping[str, int]
) -> Exception:
    said = [
        f"{_place(path, each.path, lines)}: {each.message}" + (f" ({each.hint})" if each.hint else "")
        for each in problems[:MAX_SHOWN]
    ]
    more = len(problems) - len(said)
    return Misconfigured("agent_files", "; ".join(said) + (f"; and {more} more" if more else ""))


def _place(path: Path, pointer: str, lines: Mapping[str, int]) -> str:
    """File, line and path of a problem: the line of the nearest field that the file has."""
    at = pointer
    while at and at not in lines:
        at = at.rpartition("/")[0]
    line = lines.get(at)
    return f"{path}{'' if line is None else f':{line}'}{f' {pointer}' if pointer else ''}"


def _lines(path: Path) -> dict[str, int]:
    """The line of each field of a file, from 1, by its path. JSON is YAML here."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return {}
    return {} if root is None else dict(_lines_of(root, ""))


def _lines_of(node: yaml.Node, at: str) -> Iterator[tuple[str, int]]:
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = f"{at}/{_escaped(key.value)}"
                yield from _lines_of(value, inner)
                yield inner, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _lines_of(item, f"{at}/{number}")


def _escaped(name: str) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")
