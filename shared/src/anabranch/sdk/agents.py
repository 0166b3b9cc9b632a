"""Agents: the decorator that marks a function as an agent, and the registry in which workers look agents up.

The decorator only marks a function (see `marks`): importing a module registers nothing. The process that runs
agents creates a `Registry` and adds agents to it by name. A registry runs nothing itself.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ValidationError

from anabranch.core.durations import parse_duration
from anabranch.core.errors import Misconfigured
from anabranch.core.names import CAPABILITY, name_problem
from anabranch.core.request.limits import Breaker
from anabranch.core.request.models import RetryPolicy
from anabranch.sdk.described import capabilities_of, schema_of, version_of
from anabranch.sdk.discovery import is_async, is_generator, marked_in, place_of
from anabranch.sdk.hooks import NO_HOOKS, Hooks, hooks_in, hooks_of
from anabranch.sdk.importing import import_module, one_line
from anabranch.sdk.marks import AgentMark, marks_of, put_mark
from anabranch.sdk.programs.spec import ProgramKind

if TYPE_CHECKING:
    from anabranch.sdk.programs.program import Program

F = TypeVar("F", bound=Callable[..., Any])

ExecutorKind = Literal["in-process"] | ProgramKind
"""How workers execute an agent: by a call in their own process, or as a program."""


@dataclass(frozen=True, slots=True)
class AgentDeclaration:
    """A registered agent.

    Attributes:
        handler: takes a `Task`; returns the result, or if `is_async` an awaitable of it.
        timeout: of one attempt, in seconds.
        max_concurrency: maximum number of concurrent calls in one worker.
        capabilities: what the agent can do, in alphabetical order, for tasks that name no agent.
        input_schema, output_schema: JSON Schemas for people and other agents; nothing is checked against them.
    """

    name: str
    handler: Callable[[Any], Any]
    is_async: bool
    retry: RetryPolicy | None = None
    timeout: float | None = None
    max_concurrency: int | None = None
    place: str = ""
    """Location of the definition for error messages: `module.function (file:line)`."""
    executor: ExecutorKind = "in-process"
    version: str | None = None
    capabilities: tuple[str, ...] = ()
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    breaker: Breaker | None = None
    program: Program | None = None
    """Of an agent that is a program; `handler` is not called then."""


def agent(
    name: str,
    *,
    retry: RetryPolicy | Mapping[str, Any] | None = None,
    timeout: float | str | None = None,
    max_concurrency: int | None = None,
    version: str | int | None = None,
    capabilities: Iterable[str] = (),
    input_schema: Mapping[str, Any] | type[BaseModel] | None = None,
    output_schema: Mapping[str, Any] | type[BaseModel] | None = None,
    breaker: Breaker | Mapping[str, Any] | None = None,
) -> Callable[[F], F]:
    """Mark a function as the agent `name`, and return it unchanged.

    An `async def` runs on the worker's event loop, a `def` in its bounded thread pool. A class with a `__call__`
    can be marked, too: each registry creates one instance of it, without arguments.

    Args:
        retry: default policy for failed attempts, as in a request; the policy of a request takes precedence.
        timeout: default timeout of one attempt, in seconds or as text such as `"2m"`; the timeout of a request
            takes precedence.
        max_concurrency: maximum number of concurrent calls in one worker.
        version: of the agent, shown in the list of agents.
        capabilities: what the agent can do: a task may name one of them in place of an agent.
        input_schema, output_schema: JSON Schema, or a pydantic model, of the task's `inputs` and of the result.
            They are shown in the list of agents; nothing is checked against them.
        breaker: stops all calls of the agent for a while after failures, such as `{"failures": 5}`.

    Raises:
        TypeError: no name is given, the function is a generator, or a schema is no object.
        ValueError: the name, the policy, the timeout, the maximum or a capability is invalid; the message says
            which.
    """
    if not isinstance(name, str):
        raise TypeError('an agent needs a name: write @agent("name"), not @agent')
    mark = AgentMark(
        name,
        _policy(name, retry),
        _timeout(name, timeout),
        _bound(name, max_concurrency),
        version_of(name, version),
        capabilities_of(name, capabilities),
        schema_of(name, "input_schema", input_schema),
        schema_of(name, "output_schema", output_schema),
        _breaker(name, breaker),
    )
    if problem := name_problem(name):
        raise ValueError(f"agent name: {problem}")

    def decorate(function: F) -> F:
        _refuse_generators(name, function)
        put_mark(function, mark)
        return function

    return decorate


class Registry:
    """The agents of a worker, a plan or an embedded system, by name."""

    def __init__(self) -> None:
        self._agents: dict[str, AgentDeclaration] = {}
        self._sources: dict[str, object] = {}
        self._capable: dict[str, str] = {}
        """By `capability/NAME`: the name of the agent that serves it here, the first one by name."""
        self.hooks: Hooks = NO_HOOKS
        """What runs before and after each attempt of these agents."""

    @classmethod
    def builtin(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """A registry with the built-in agents `echo`, `sleep`, `http`, `fail` and `emit`.

        Args:
            environ: environment with `ANABRANCH_HTTP_ALLOW`.
        """
        from anabranch.sdk.builtin import builtin_agents

        registry = cls()
        for each in builtin_agents(environ):
            registry.add(each)
        return registry

    def add(self, source: Callable[..., Any] | ModuleType) -> Self:
        """Add a marked function, class or instance, or all of these in a module: agents and hooks.

        Raises:
            TypeError: nothing is marked, or an agent cannot be called with one task.
            Misconfigured: another agent has the same name; the message has the locations of both.
        """
        found = marked_in(source) if isinstance(source, ModuleType) else [source]
        hooks = hooks_in(source) if isinstance(source, ModuleType) else hooks_of(source)
        self.hooks = self.hooks.with_more(hooks)
        if not hooks and not any(marks_of(each) for each in found):
            raise TypeError(f'{_label(source)} has no agent: mark a function with @agent("name")')
        for each in found:
            for mark in marks_of(each):
                self._put(mark, each)
        return self

    def declare(self, declaration: AgentDeclaration) -> Self:
        """Add an agent that is no function.

        Raises:
            Misconfigured: another agent has the same name; the message has the places of both.
        """
        known = self._agents.get(declaration.name)
        if known is not None and known != declaration:
            raise _same_name(declaration.name, known.place, declaration.place)
        self._insert(declaration, declaration)
        return self

    def replace(self, declaration: AgentDeclaration) -> Self:
        """Add an agent, in place of one with its name."""
        self._agents.pop(declaration.name, None)
        kept, self._agents, self._capable = self._agents, {}, {}
        for each in (*kept.values(), declaration):
            self._insert(each, self._sources.get(each.name, each))
        return self

    def without(self, names: Iterable[str]) -> Self:
        """A new registry without the agents of these names."""
        left_out = set(names)
        registry = type(self)()
        registry.hooks = self.hooks
        for name, each in self._agents.items():
            if name not in left_out:
                registry._insert(each, self._sources[name])
        return registry

    def load(self, module: str) -> Self:
        """Import a module by its dotted name, also from the current directory, and add its agents.

        Raises:
            Misconfigured: the module cannot be imported, has no agent, or has an agent whose name is already used.
        """
        try:
            return self.add(import_module(module))
        except TypeError as error:
            raise Misconfigured("agents", str(error)) from error

    def wrapped(self, wrap: Callable[[AgentDeclaration], AgentDeclaration]) -> Self:
        """A new registry with the same agents, each wrapped by `wrap`."""
        registry = type(self)()
        registry._agents = {name: wrap(each) for name, each in self._agents.items()}
        registry._sources = dict(self._sources)
        registry._capable = dict(self._capable)
        registry.hooks = self.hooks
        return registry

    def get(self, name: str) -> AgentDeclaration | None:
        """The agent with this name; for `capability/NAME` the first one by name that has the capability; or
        None."""
        return self._agents.get(name) or self._agents.get(self._capable.get(name, ""))

    @property
    def names(self) -> frozenset[str]:
        """The names of all agents."""
        return frozenset(self._agents)

    @property
    def choices(self) -> frozenset[str]:
        """What tasks may name: the names of all agents, and `capability/NAME` for each of their capabilities."""
        return frozenset((*self._agents, *self._capable))

    @property
    def program_choices(self) -> frozenset[str]:
        """Those of `choices` that name an agent which is a program."""
        return frozenset(
            choice
            for choice in self.choices
            if (each := self.get(choice)) is not None and each.program is not None
        )

    def __contains__(self, name: object) -> bool:
        return name in self._agents or name in self._capable

    def __iter__(self) -> Iterator[AgentDeclaration]:
        return iter(self._agents.values())

    def __len__(self) -> int:
        return len(self._agents)

    def _put(self, mark: AgentMark, source: object) -> None:
        known = self._agents.get(mark.name)
        if known is None:
            self._insert(declare(mark, source), source)
        # A module may be loaded twice, and may import the agents of another one.
        elif not _is_same(self._sources[mark.name], source):
            raise _same_name(mark.name, known.place, place_of(source))

    def _insert(self, declaration: AgentDeclaration, source: object) -> None:
        name = declaration.name
        self._agents[name] = declaration
        self._sources[name] = source
        for capability in declaration.capabilities:
            choice = CAPABILITY + capability
            self._capable[choice] = min(name, self._capable.get(choice, name))


def _same_name(name: str, one: str, other: str) -> Misconfigured:
    return Misconfigured(
        "agents",
        f"two agents have the name {name!r}: {one} and {other}",
        "rename one of them, or load only one of the modules",
    )


def declare(mark: AgentMark, source: object) -> AgentDeclaration:
    """The declaration of a marked function or instance, or of a new instance of a marked class.

    Raises:
        TypeError: the agent cannot be called with one task.
        Misconfigured: the instance cannot be created, or the marked object cannot be inspected.
    """
    try:
        handler = _instance(mark, source) if inspect.isclass(source) else source
        return _declared(mark, handler, source)
    except (TypeError, Misconfigured):
        raise
    except Exception as error:
        reason = f"the agent {mark.name!r} at {place_of(source)} cannot be inspected: {one_line(error)}"
        raise Misconfigured("agents", reason) from error


def _instance(mark: AgentMark, source: Callable[[], Any]) -> Any:
    """Create an instance of a marked class. An exception of its `__init__` is an error of the agents' module."""
    try:
        return source()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an `__init__` may also exit
        reason = f"the agent {mark.name!r} cannot be created: {place_of(source)}() raised {one_line(error)}"
        fix = "a marked class is instantiated without arguments, once in each process"
        raise Misconfigured("agents", reason, fix) from error


def _declared(mark: AgentMark, handler: Any, source: object) -> AgentDeclaration:
    if not callable(handler):
        raise TypeError(f"the agent {mark.name!r} at {place_of(source)} cannot be called: give it a __call__")
    _refuse_generators(mark.name, handler)
    _check_takes_a_task(mark.name, handler, source)
    return AgentDeclaration(
        name=mark.name,
        handler=handler,
        is_async=is_async(handler),
        retry=mark.retry,
        timeout=mark.timeout,
        max_concurrency=mark.max_concurrency,
        place=place_of(source),
        version=mark.version,
        capabilities=mark.capabilities,
        input_schema=mark.input_schema,
        output_schema=mark.output_schema,
        breaker=mark.breaker,
    )


def _refuse_generators(name: str, function: Callable[..., Any]) -> None:
    if is_generator(function):
        raise TypeError(
            f"the agent {name!r} at {place_of(function)} is a generator, but a task has one result: "
            "return a list of the items"
        )


def _check_takes_a_task(name: str, handler: Callable[..., Any], source: object) -> None:
    try:
        _called(handler).bind(None)
    except TypeError as error:
        raise TypeError(
            f"the agent {name!r} at {place_of(source)} must take one argument, the task: {error}"
        ) from error
    except ValueError:  # a callable in C without a signature: a wrong one fails at its first call
        return


def _called(handler: Callable[..., Any]) -> inspect.Signature:
    """The call signature; for an instance that of its class's `__call__`, because an instance may have any
    attribute."""
    call = inspect.getattr_static(type(handler), "__call__", None)
    if type(call) is staticmethod:
        return inspect.signature(call.__func__)
    return inspect.signature(MethodType(call, handler) if type(call) is FunctionType else handler)


def _is_same(one: object, other: object) -> bool:
    """True if two sources are the same object; bound methods are compared by their parts, each access creates
    one."""
    if type(one) is MethodType and type(other) is MethodType:
        return one.__self__ is other.__self__ and one.__func__ is other.__func__
    return one is other


def _label(source: object) -> str:
    return f"module {source.__name__}" if isinstance(source, ModuleType) else place_of(source)


def _policy(name: str, retry: RetryPolicy | Mapping[str, Any] | None) -> RetryPolicy | None:
    if retry is None or isinstance(retry, RetryPolicy):
        return retry
    try:
        return RetryPolicy.model_validate(retry)
    except ValidationError as error:
        raise ValueError(f"retry of the agent {name!r}: {error}") from error


def _breaker(name: str, breaker: Breaker | Mapping[str, Any] | None) -> Breaker | None:
    if breaker is None or isinstance(breaker, Breaker):
        return breaker
    try:
        return Breaker.model_validate(breaker)
    except ValidationError as error:
        raise ValueError(f"breaker of the agent {name!r}: {error}") from error


def _timeout(name: str, timeout: float | str | None) -> float | None:
    if timeout is None:
        return None
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise ValueError(f"timeout of the agent {name!r}: {error}") from error
    if seconds == 0:
        raise ValueError(f"timeout of the agent {name!r}: must be more than 0; omit it for no timeout")
    return seconds


def _bound(name: str, max_concurrency: int | None) -> int | None:
    if max_concurrency is not None and max_concurrency < 1:
        raise ValueError(f"max_concurrency of the agent {name!r} is {max_concurrency}: must be at least 1")
    return max_concurrency
