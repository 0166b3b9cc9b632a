"""Agents that are programs: what they run for a task, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from pydantic import ValidationError

from anabranch.core.errors import GiveUp
from anabranch.core.programs import summary
from anabranch.core.request.document import Document
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.schema_errors import schema_problems
from anabranch.sdk.programs.documents import RequestedProgram, Resources, spec_problem
from anabranch.sdk.programs.policy import ProgramPolicy
from anabranch.sdk.programs.spec import ProgramKind, ProgramSpec
from anabranch.sdk.task import Task

MAX_ARGUMENT_BYTES = 100_000
"""Bytes of inputs that are passed as an argument. Linux takes 128 KiB."""


_MODELS: dict[str, type[Document]] = {"": RequestedProgram, "resources": Resources}


@dataclass(frozen=True, slots=True)
class ProgramCall:
    """What is run for one attempt of a member: a program, and its inputs as JSON text."""

    spec: ProgramSpec
    inputs: bytes


class Program(Protocol):
    """The program of an agent."""

    @property
    def kind(self) -> ProgramKind:
        """The engine that runs it."""
        ...

    @property
    def summary(self) -> dict[str, Any] | None:
        """What it runs, without secrets; None if the task's inputs name it."""
        ...

    def call_of(self, task: Task) -> ProgramCall:
        """What is run for a task.

        Raises:
            GiveUp: the task's inputs name no program that may run here.
        """
        ...


@dataclass(frozen=True, slots=True)
class DeclaredProgram:
    """The program of an agent of a file: the same for each task."""

    spec: ProgramSpec

    @property
    def kind(self) -> ProgramKind:
        """See `Program`."""
        return self.spec.kind

    @property
    def summary(self) -> dict[str, Any]:
        """See `Program`."""
        spec = self.spec
        return summary(spec.image, spec.command, spec.namespace, spec.service_account)

    def call_of(self, task: Task) -> ProgramCall:
        """See `Program`. The inputs of the task, else its message, are those of the program."""
        return _call(self.spec, task.message if task.inputs is None else task.inputs)


@dataclass(frozen=True, slots=True)
class BuiltinProgram:
    """The program of a built-in agent: the task's inputs name it. `policy` bounds what they may name."""

    kind: ProgramKind
    policy: ProgramPolicy

    @property
    def summary(self) -> None:
        """See `Program`."""
        return None

    def call_of(self, task: Task) -> ProgramCall:
        """See `Program`."""
        if not isinstance(task.inputs, dict):
            raise GiveUp(f"{self.kind}: inputs is {task.inputs!r}, must be an object with the program")
        try:
            requested = RequestedProgram.model_validate(task.inputs)
        except ValidationError as error:
            problems = schema_problems(error, task.inputs, json_pointer, _MODELS)
            raise GiveUp(f"{self.kind}: " + "; ".join(f"inputs{each}" for each in problems)) from error
        spec = requested.spec(self.kind)
        if (problem := spec_problem(spec)) is not None:
            field, reason, fix = problem
            raise GiveUp(f"{self.kind}: inputs.{field}: {reason}; {fix}")
        if (refusal := self.policy.refusal(spec)) is not None:
            raise GiveUp(f"{self.kind}: {refusal}")
        return _call(spec, requested.inputs)


def _call(spec: ProgramSpec, inputs: Any) -> ProgramCall:
    text = orjson.dumps(inputs)
    if spec.input == "args" and len(text) > MAX_ARGUMENT_BYTES:
        raise GiveUp(
            f"{spec.kind}: the inputs have {len(text):,} bytes of JSON, an argument takes {MAX_ARGUMENT_BYTES:,}: "
            "use the input file"
        )
    return ProgramCall(spec, text)
