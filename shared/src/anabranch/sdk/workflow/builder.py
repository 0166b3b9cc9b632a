"""`WorkflowBuilder`: a request in Python. See docs/how-to/python-workflows.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import FunctionType
from typing import Any, Literal, TypeVar, Unpack, overload

from anabranch.core.errors import Problem
from anabranch.core.request.admission import read_request
from anabranch.core.request.models import Request
from anabranch.sdk.agents import Registry
from anabranch.sdk.client import session_keys_of
from anabranch.sdk.marks import marks_of
from anabranch.sdk.task import Task
from anabranch.sdk.workflow.blocks import Blocks
from anabranch.sdk.workflow.checked import checked
from anabranch.sdk.workflow.functions import FunctionAgent, agent_of, parameters_of
from anabranch.sdk.workflow.options import (
    ApprovalOptions,
    Condition,
    Duration,
    FunctionOptions,
    Json,
    RequestOptions,
    RunOptions,
    StepOptions,
    TaskOptions,
)
from anabranch.sdk.workflow.places import Place, WorkflowError, calling_place, place_of_function, wrong
from anabranch.sdk.workflow.steps import Item, Step, Writer, plain

F = TypeVar("F", bound=Callable[..., Any])


class WorkflowBuilder(Blocks):
    """Builds a request: each call adds a step, and a `with` block holds the steps that belong together.

    Steps run one after another, as `steps` in a request; with `group`, the workflow has `task_groups`. A function
    with `@workflow.task` is a task too: its parameters are the keys that it depends on.
    """

    def __init__(self, name: str | None = None, **options: Unpack[RequestOptions]) -> None:
        """Args:
        name: name of the run.
        options: `context`, `timeout`, `labels` and other fields of the request.
        """
        self.name = name
        self._place = calling_place()
        self._options = checked(RequestOptions, options, self._place)
        super().__init__()
        self._agents: list[FunctionAgent] = []

    # --- tasks -------------------------------------------------------------------------------------

    def add_task(
        self, name: str | None = None, *, agent: str | Callable[..., Any], **options: Unpack[TaskOptions]
    ) -> Step:
        """Add a task with an agent: its name, or a function with `@agent`.

        Args:
            name: default: the name of the agent.
            options: fields of the task.

        Raises:
            WorkflowError: the function is no agent, or an option does not exist.
        """
        place = calling_place()
        if not isinstance(agent, str):
            if not (marks := marks_of(agent)):
                raise wrong(place, f"{agent!r} is no agent", 'mark it with @agent("name"), or use @workflow.task')
            agent = marks[0].name
        return self._add(name, {"agent": agent, **checked(TaskOptions, options, place)}, place, agent)

    def add_wait(
        self,
        name: str | None = None,
        *,
        for_: Duration | None = None,
        until: str | datetime | None = None,
        condition: Condition | None = None,
        signal: str | None = None,
        event: Mapping[str, Json] | None = None,
        approval: ApprovalOptions | None = None,
        timeout: Duration | None = None,
        on_timeout: Literal["fail", "skip", "value"] | None = None,
        value: Json = None,
        schema: Mapping[str, Json] | None = None,
        collect: int | None = None,
        **options: Unpack[StepOptions],
    ) -> Step:
        """Add a wait for exactly one of: a duration, a time, a condition, a signal, an event, an approval.

        Args:
            timeout: the longest time that it waits; `on_timeout` says what happens then, `value` its value.
            schema: JSON Schema of the payload of a signal or event; `collect`: how many of them.
        """
        place = calling_place()
        wait = {
            "for": for_,
            "until": until.isoformat() if isinstance(until, datetime) else until,
            "condition": condition,
            "signal": signal,
            "event": event,
            "approval": approval,
            "timeout": timeout,
            "on_timeout": on_timeout,
            "value": value,
            "schema": schema,
            "collect": collect,
        }
        given = {field: each for field, each in wait.items() if each is not None}
        return self._add(name, {"wait": given, **checked(StepOptions, options, place)}, place, name)

    def add_run(
        self,
        name: str | None = None,
        *,
        request: WorkflowBuilder | Mapping[str, Any] | None = None,
        definition: str | None = None,
        context: Mapping[str, Json] | None = None,
        session: Literal["own", "shared"] | None = None,
        on_parent_end: Literal["cancel", "abandon"] | None = None,
        outputs: list[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Step:
        """Add a task that starts a run: of another workflow or request, or of a definition.

        Args:
            context: values that replace those of its context.
            outputs: its results that are taken over; default all.

        Raises:
            WorkflowError: the other workflow is wrong.
        """
        place = calling_place()
        document = request.build() if isinstance(request, WorkflowBuilder) else request
        run = {
            "request": document,
            "definition": definition,
            "context": context,
            "session": session,
            "on_parent_end": on_parent_end,
            "outputs": outputs,
        }
        given = {field: each for field, each in run.items() if each is not None}
        return self._add(name, {"run": given, **checked(RunOptions, options, place)}, place, name)

    def _add(self, name: str | None, fields: Mapping[str, Any], place: Place, default_key: str | None) -> Step:
        named = {} if name is None else {"name": name}
        self._open[-1].append(Item("task", place, {**named, **fields}))
        default = name if name is not None else default_key
        return Step(name, tuple(fields.get("result_keys") or ([] if default is None else [default])))

    # --- functions as tasks ------------------------------------------------------------------------

    @overload
    def task(self, function: F, /) -> F: ...

    @overload
    def task(
        self, *, name: str | None = None, each: Mapping[str, Any] | None = None, **options: Unpack[FunctionOptions]
    ) -> Callable[[F], F]: ...

    # Mypy does not see that `Any` accepts what an unpacked TypedDict has.
    def task(  # type: ignore[misc]
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        each: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> F | Callable[[F], F]:
        """Make a function a task: `@workflow.task`, or `@workflow.task(timeout="1m")`. Returns it unchanged.

        A parameter is the key that it is named after; one with a default is an optional key. `task` is the `Task`.
        In a loop, `item`, `iteration`, `state` and `last` are those of the loop. What the function returns is the
        value of the key with the name of the task. Functions after each other start when their keys have values.

        Args:
            name: default: that of the function.
            each: parameter -> list, or path to a list: one member for each item (`expansion_config` of type
                `array`).

        Raises:
            WorkflowError: a parameter cannot be given by name, or an option does not exist.
        """
        place = calling_place()
        given = checked(FunctionOptions, options, place)
        if function is not None:
            self._add_function(function, None, {}, given)
            return function

        def decorate(decorated: F) -> F:
            self._add_function(decorated, name, each or {}, given)
            return decorated

        return decorate

    def _add_function(
        self, function: Callable[..., Any], name: str | None, each: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        if not isinstance(function, FunctionType):
            raise wrong(calling_place(), f"{function!r} is no function", "decorate a `def` or an `async def`")
        name = name or function.__name__
        inputs = {**(options.get("inputs") or {}), **{variable: f"{{{variable}}}" for variable in each}}
        parameters = parameters_of(function, inputs, in_loop=self._loops > 0)
        inputs |= {variable: f"{{{variable}}}" for variable in sorted(parameters.inputs - inputs.keys())}
        agent = f"{self.name}.{name}" if self.name else name
        self._agents.append(agent_of(function, parameters, agent))
        own = {key: value for key, value in options.items() if key not in ("inputs", "dependencies")}
        fields: dict[str, Any] = {"name": name, "agent": agent}
        if needs := [*parameters.dependencies, *(options.get("dependencies") or ())]:
            fields["dependencies"] = needs
        if each:
            fields["expansion_config"] = {"type": "array", "array_mapping": dict(each)}
        if inputs:
            fields["inputs"] = inputs
        items = self._open[-1]
        if not items or items[-1].kind != "functions":
            items.append(Item("functions", place_of_function(function)))
        items[-1].items.append(Item("task", place_of_function(function), fields | own))

    # --- the request -------------------------------------------------------------------------------

    def build(self) -> dict[str, Any]:
        """The request as a document, as in a file of YAML; it has been validated.

        Raises:
            WorkflowError: it would be refused; the message names the line of each call that is wrong.
        """
        document, places = self._written()
        errors = read_request(document, session_keys=session_keys_of(document)).errors
        if errors:
            raise self._refused(errors, places)
        return document

    def to_request(self) -> Request:
        """The request in its canonical form. Raises WorkflowError, as `build`."""
        document = self.build()
        return read_request(document, session_keys=session_keys_of(document)).required()

    @property
    def agents(self) -> tuple[Callable[[Task], Any], ...]:
        """The agents of the functions of this workflow, for `Registry.add` and `anabranch.testing.system`."""
        return tuple(self._agents)

    def registry(self) -> Registry:
        """The built-in agents, and those of the functions of this workflow."""
        registry = Registry.builtin()
        for each in self.agents:
            registry.add(each)
        return registry

    def _written(self) -> tuple[dict[str, Any], dict[str, Place]]:
        writer = Writer()
        found = {**({} if self.name is None else {"name": self.name}), **plain(self._options, self._place)}
        if any(item.is_group for item in self._items):
            found["task_groups"] = writer.groups(self._items, ("task_groups",))
        else:
            found["steps"] = writer.steps(self._items, ("steps",))
        if self._finally:
            tasks = [task for item in self._finally for task in (item.items or [item])]
            found["finally"] = writer.steps(tasks, ("finally",))
        return found, {"".join(f"/{part}" for part in path): place for path, place in writer.places.items()}

    def _refused(self, errors: tuple[Problem, ...], places: Mapping[str, Place]) -> WorkflowError:
        found = [self._place_of(problem.path, places) for problem in errors]
        lines = [f"{place}: {problem}" for place, problem in zip(found, errors, strict=True)]
        return WorkflowError("\n".join(lines), errors, tuple(map(str, found)))

    def _place_of(self, path: str, places: Mapping[str, Place]) -> Place:
        """The call that wrote the part of the request at a path."""
        while path and path not in places:
            path = path.rpartition("/")[0]
        return places.get(path, self._place)
