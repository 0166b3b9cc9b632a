"""Functions as tasks: which values their parameters get, and the agents that call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import Parameter
from types import FunctionType
from typing import Any, Final

from anabranch.core.request.flow import LOOP_NAMES
from anabranch.sdk.discovery import is_generator
from anabranch.sdk.marks import AgentMark, put_mark
from anabranch.sdk.task import Task
from anabranch.sdk.workflow.places import place_of_function, wrong

TASK: Final = "task"
"""The parameter that gets the `Task` itself."""
_REFUSED: Final = {
    Parameter.POSITIONAL_ONLY: "is positional-only",
    Parameter.VAR_POSITIONAL: "takes any number of values",
    Parameter.VAR_KEYWORD: "takes any names",
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the parameters of a function stand for.

    Attributes:
        keys: parameter -> False, or True if it has a default: a result key, an optional one with a default.
        inputs: parameters that are inputs of the task.
        takes_task: whether one is the `Task`.
    """

    keys: Mapping[str, bool]
    inputs: frozenset[str]
    takes_task: bool

    @property
    def dependencies(self) -> list[str]:
        """The keys as dependencies of a task."""
        return [f"{name}?" if is_optional else name for name, is_optional in self.keys.items()]


def parameters_of(function: FunctionType, inputs: Collection[str], *, in_loop: bool) -> Parameters:
    """The parameters of a function that is a task.

    Args:
        inputs: names that the task has as inputs: given ones, and the variables of its expansion.

    Raises:
        WorkflowError: a parameter cannot be given by name, or an input has no parameter.
    """
    place, found = place_of_function(function), inspect.signature(function).parameters
    if is_generator(function):
        raise wrong(place, f"{function.__name__} is a generator, but a task has one result", "return a list")
    for name, parameter in found.items():
        if parameter.kind in _REFUSED:
            problem = f"the parameter `{name}` of {function.__name__} {_REFUSED[parameter.kind]}"
            raise wrong(place, problem, "each parameter is named like the key that it gets")
    known = {*inputs, *(LOOP_NAMES if in_loop else ())}
    if lost := [name for name in inputs if name not in found]:
        raise wrong(place, f"{function.__name__} has no parameter `{lost[0]}`, which its task has as an input")
    keys = {
        name: parameter.default is not Parameter.empty
        for name, parameter in found.items()
        if name not in known and name != TASK
    }
    return Parameters(keys, frozenset(known & set(found)), TASK in found)


class FunctionAgent:
    """An agent that calls a function with the values of its task.

    The function stays as it is, so a test calls it directly.
    """

    def __init__(self, function: Callable[..., Any], parameters: Parameters) -> None:
        self.__wrapped__ = function  # error messages name its place
        self._parameters = parameters

    def __call__(self, task: Task) -> Any:
        return self.__wrapped__(**self.arguments(task))

    def arguments(self, task: Task) -> dict[str, Any]:
        """The arguments of the function. An absent optional key keeps the default of its parameter."""
        found = {name: task.context[name] for name in self._parameters.keys if name in task.context}
        if self._parameters.inputs:
            found |= {name: task.inputs[name] for name in self._parameters.inputs}
        return found | ({TASK: task} if self._parameters.takes_task else {})


class AsyncFunctionAgent(FunctionAgent):
    """The same for an `async def`."""

    async def __call__(self, task: Task) -> Any:
        return await self.__wrapped__(**self.arguments(task))


def agent_of(function: FunctionType, parameters: Parameters, name: str) -> FunctionAgent:
    """The agent of a function. The module that is being imported lists it, so workers find it."""
    kind = AsyncFunctionAgent if inspect.iscoroutinefunction(function) else FunctionAgent
    made = kind(function, parameters)
    put_mark(made, AgentMark(name))
    return made
