"""The fields of a program: as an agent's declaration in a file, and as a request passes it to a built-in agent."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from anabranch.core.request.document import Document
from anabranch.core.request.fields import Count, Json, Timeout
from anabranch.core.request.flow import refusal
from anabranch.core.request.limits import Breaker
from anabranch.core.request.models import RetryPolicy
from anabranch.core.request.resources import Cpu, Gpu, Memory
from anabranch.sdk.programs.spec import InputMode, OutputMode, ProgramKind, ProgramLimits, ProgramSpec


def _words(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return shlex.split(value)
    except ValueError as error:
        raise refusal(f"cannot be split into words: {error}", "write a list of words") from error


def _texts(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: _text(each) for name, each in value.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


Command = Annotated[tuple[str, ...], BeforeValidator(_words)]
"""A program and its arguments: a list, or text that is split as a shell does, without expansions."""
Texts = Annotated[dict[str, str], BeforeValidator(_texts)]


class Resources(Document):
    """What one execution may use."""

    cpu: Cpu | None = None
    memory: Memory | None = None
    gpu: Gpu | None = None

    @property
    def limits(self) -> ProgramLimits:
        """The same as numbers: cores, bytes, devices."""
        cpu = None if self.cpu is None else self.cpu / 1000
        gpu = None if self.gpu is None else -(-self.gpu // 1000)
        return ProgramLimits(cpu, self.memory, gpu)


class RequestedProgram(Document):
    """The ``inputs`` of a task of a built-in agent: the program, and the program's own inputs."""

    command: Command = ()
    image: str | None = Field(default=None, min_length=1)
    env: Texts = Field(default_factory=dict)
    resources: Resources = Resources()
    input: InputMode = "file"
    output: OutputMode = "file"
    namespace: str | None = Field(default=None, min_length=1)
    inputs: Json = None

    def spec(self, kind: ProgramKind) -> ProgramSpec:
        """The program that an engine of this kind runs."""
        return ProgramSpec(
            kind=kind,
            command=self.command,
            env=self.env,
            image=self.image,
            limits=self.resources.limits,
            input=self.input,
            output=self.output,
            namespace=self.namespace,
        )


class DeclaredAgent(Document):
    """An agent of a file of agents: the program, and what `@agent` takes of any other agent."""

    kind: ProgramKind
    command: Command = ()
    image: str | None = Field(default=None, min_length=1)
    env: Texts = Field(default_factory=dict)
    resources: Resources = Resources()
    input: InputMode = "file"
    output: OutputMode = "file"
    namespace: str | None = Field(default=None, min_length=1)
    service_account: str | None = Field(default=None, min_length=1)
    options: Texts = Field(default_factory=dict)
    timeout: Timeout | None = None
    retry: RetryPolicy | None = None
    max_concurrency: Count | None = None
    capabilities: tuple[str, ...] = ()
    version: str | int | None = None
    input_schema: dict[str, Json] | None = None
    output_schema: dict[str, Json] | None = None
    breaker: Breaker | None = None

    @property
    def spec(self) -> ProgramSpec:
        """The program that an engine runs."""
        return ProgramSpec(
            kind=self.kind,
            command=self.command,
            env=self.env,
            image=self.image,
            limits=self.resources.limits,
            timeout=self.timeout,
            input=self.input,
            output=self.output,
            namespace=self.namespace,
            service_account=self.service_account,
            options=self.options,
        )


def spec_problem(spec: ProgramSpec) -> tuple[str, str, str] | None:
    """Why an engine cannot run a program: the field, the reason and what to do; None if it can."""
    if spec.kind == "process":
        if not spec.command:
            return "command", "is missing", "name the program that the worker starts"
        if spec.image is not None:
            return "image", "is of a container, and the kind is process", "leave it out, or use the kind container"
        if spec.limits.gpu is not None:
            return "resources", "a process cannot be limited to some GPUs", "leave out gpu"
    elif spec.image is None:
        return "image", "is missing", f"name the image that the {spec.kind} runs"
    if spec.kind != "kubernetes" and (spec.namespace or spec.service_account):
        field = "namespace" if spec.namespace else "service_account"
        return field, f"is of a Job, and the kind is {spec.kind}", "leave it out, or use the kind kubernetes"
    wrong = next((name for name in spec.env if not name or "=" in name or "\0" in name), None)
    return None if wrong is None else ("env", f"{wrong!r} is no name of a variable", "leave out `=`")
