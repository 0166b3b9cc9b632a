"""Values that the expressions of a job name: constants, placeholders of the request, variables of its shell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from anabranch.core.pipelines.conversion import Findings, Path
from anabranch.core.pipelines.github.expressions import (
    Constant,
    Expression,
    ExpressionError,
    Reference,
    split_text,
)
from anabranch.core.templates import literal, placeholders

_OUTCOMES: Final = ("outcome", "conclusion")
_CONSTANTS: Final = {"runner.os": "Linux"}
_SHELL: Final = {
    "runner.temp": "RUNNER_TEMP",
    "github.workspace": "GITHUB_WORKSPACE",
    "github.job": "GITHUB_JOB",
    "runner.workspace": "GITHUB_WORKSPACE",
}
"""References that the script of each job sets as variables."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A value that the request knows before the job starts, as the text in braces."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that the script of the job sets while it runs."""

    name: str


Value = Constant | Placeholder | Variable


@dataclass(slots=True)
class WorkflowValues:
    """What all jobs see.

    Attributes:
        outputs: the names of the outputs of each job.
        context: the context of the request; references to `github`, `inputs` and `vars` are added with an empty
            value.
        name: the name of the workflow.
    """

    findings: Findings
    outputs: Mapping[str, Sequence[str]]
    name: str = ""
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class JobValues:
    """What the expressions of one job see.

    Attributes:
        needs: the jobs that it needs.
        axes: the names of its matrix.
        steps: the ids of its steps so far.
        variables: the variables of the environment that have a placeholder as their value.
        producers: the jobs whose outputs its placeholders name.
    """

    workflow: WorkflowValues
    needs: Sequence[str]
    axes: Sequence[str]
    steps: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    producers: set[str] = field(default_factory=set)

    def resolve(self, reference: Reference) -> Value:
        """The value that a reference names.

        Raises:
            ExpressionError: there is no such value in a request.
        """
        path = reference.path
        if (constant := _CONSTANTS.get(str(reference))) is not None:
            return Constant(constant)
        if str(reference) == "github.workflow" and self.workflow.name:
            return Constant(self.workflow.name)
        if (variable := _SHELL.get(str(reference))) is not None:
            return Variable(variable)
        match path:
            case ("matrix", name, *_):
                return Placeholder(str(reference)) if name in self.axes else Constant("")
            case ("needs", job, "outputs", name):
                return self._output(job, name)
            case ("steps", step, "outputs", name) if step in self.steps:
                return Variable(step_variable(step, name))
            case ("steps", step, outcome) if step in self.steps and outcome in _OUTCOMES:
                return Variable(step_variable(step, outcome))
            case ("steps", step, *_):
                raise ExpressionError(f"{reference}: no earlier step has the id {step!r} and such a value")
            case ("env", name):
                return Variable(name)
            case ("github", "event", "inputs", name):
                return self._of_context(f"inputs.{name}")
            case ("inputs" | "vars" | "github", _, *_):
                return self._of_context(str(reference))
            case ("secrets", name, *_):
                raise ExpressionError(
                    f"the secret {name!r} cannot be in a request: let the program read it where it runs, such as "
                    "from a file of the worker"
                )
        raise ExpressionError(f"{reference} has no counterpart in a request")

    def words(self, text: str) -> list[str | Value]:
        """The literal parts and values of a text with expressions.

        Raises:
            ExpressionError: an expression cannot be parsed, or is more than one value.
        """
        return [part if isinstance(part, str) else self.value(part) for part in split_text(text)]

    def value(self, expression: Expression) -> Value:
        """The value of an expression that is a literal or a reference.

        Raises:
            ExpressionError: it is something else.
        """
        match expression:
            case Constant():
                return expression
            case Reference():
                return self.resolve(expression)
        raise ExpressionError("only a literal or one value such as `matrix.os` is supported within a text")

    def variable(self, value: Placeholder | Variable) -> str:
        """The name of the variable of the job's environment that has a value."""
        if isinstance(value, Variable):
            return value.name
        template = "{" + value.name + "}"
        name = _identifier(value.name).upper()
        while self.variables.setdefault(name, template) != template:
            name += "_"
        return name

    def template(self, text: str) -> str:
        """The template of the request for a text with expressions.

        Raises:
            ExpressionError: a value is known only while the job runs.
        """
        parts: list[str] = []
        named: set[str] = set()
        for word in self.words(text):
            match word:
                case str():
                    parts.append(literal(word))
                case Constant():
                    parts.append(literal(constant_text(word.value)))
                case Placeholder():
                    parts.append("{" + word.name + "}")
                    named.add(word.name)
                case Variable():
                    raise ExpressionError(f"the variable {word.name} is known only to the steps of a job")
        template = "".join(parts)
        if not named <= placeholders(template):
            raise ExpressionError("braces directly around `${{ }}` are not supported")
        return template

    def _output(self, job: str, name: str) -> Value:
        if job not in self.needs:
            raise ExpressionError(f"the output {name!r} is of the job {job!r}, which is not in `needs`")
        if name not in self.workflow.outputs.get(job, ()):
            return Constant("")
        self.producers.add(job)
        return Placeholder(f"{job}.{name}")

    def _of_context(self, name: str) -> Value:
        if name not in self.workflow.context:
            self.workflow.context[name] = ""
            self.workflow.findings.warn(
                (),
                f"{name} has no value outside of GitHub",
                f"give it with `--input {name}=VALUE`, it is empty now",
            )
        return Placeholder(name)


def step_variable(step: str, name: str) -> str:
    """The variable of the script that has an output or the outcome of a step."""
    return f"STEP_{_identifier(step)}_{_identifier(name)}"


def constant_text(value: Any) -> str:
    """The text of a literal, as GitHub writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def checked_template(values: JobValues, findings: Findings, path: Path, given: Any) -> str:
    """The template of a field that is text; an expression that cannot be converted is an error at its path."""
    try:
        return values.template(constant_text(given))
    except ExpressionError as error:
        findings.unsupported(path, str(error))
        return ""


def _identifier(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", text)
