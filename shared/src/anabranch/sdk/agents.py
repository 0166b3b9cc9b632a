"""Agents: the decorator that marks a function as an agent, and the registry in which workers look agents up.

The decorator only marks a function (see `marks`): importing a module registers nothing. The process that runs
agents creates a `Registry` and adds agents to it by name. A registry runs nothing itself.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any, Literal, Self, TypeVar

from pydantic import ValidationError

from anabranch.core.durations import parse_duration
from anabranch.core.errors import Misconfigured
from anabranch.core.names import name_problem
from anabranch.core.request.models import RetryPolicy
from anabranch.sdk.discovery import is_async, is_generator, marked_in, place_of
from anabranch.sdk.importing import import_module, one_line
from anabranch.sdk.marks import AgentMark, marks_of, put_mark

F = TypeVar("F", bound=Callable[..., Any])

ExecutorKind = Literal["in-process"]
"""How workers execute an agent: in their own process."""


@dataclass(frozen=True, slots=True)
class AgentDeclaration:
    """A registered agent.

    Attributes:
        handler: takes a `Task`; returns the result, or if `is_async` an awaitable of it.
        timeout: of one attempt, in seconds.
        max_concurrency: maximum number of concurrent calls in one worker.
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


def agent(
    name: str,
    *,
    retry: RetryPolicy | Mapping[str, Any] | None = None,
    timeout: float | str | None = None,
    max_concurrency: int | None = None,
) -> Callable[[F], F]:
    """Mark a function as the agent `name`, and return it unchanged.

    An `async def` runs on the worker's event loop, a `def` in its bounded thread pool. A class with a `__call__`
    can be marked, too: each registry creates one instance of it, without arguments.

    Args:
        retry: default policy for failed attempts, as in a request; the policy of a request takes precedence.
        timeout: default timeout of one attempt, in seconds or as text such as `"2m"`; the timeout of a request
            takes precedence.
        max_concurrency: maximum number of concurrent calls in one worker.

    Raises:
        TypeError: no name is given, or the function is a generator.
        ValueError: the name, the policy, the timeout or the maximum is invalid; the message says which.
    """
    if not isinstance(name, str):
        raise TypeError('an agent needs a name: write @agent("name"), not @agent')
    mark = AgentMark(name, _policy(name, retry), _timeout(name, timeout), _bound(name, max_concurrency))
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
        """Add a marked function, class or instance, or all of these in a module.

        Raises:
            TypeError: nothing is marked, or an agent cannot be called with one task.
            Misconfigured: another agent has the same name; the message has the locations of both.
        """
        found = marked_in(source) if isinstance(source, ModuleType) else [source]
        if not any(marks_of(each) for each in found):
            raise TypeError(f'{_label(source)} has no agent: mark a function with @agent("name")')
        for each in found:
            for mark in marks_of(each):
                self._put(mark, each)
        return self

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
        return registry

    def get(self, name: str) -> AgentDeclaration | None:
        """The agent with this name, or None."""
        return self._agents.get(name)

    @property
    def names(self) -> frozenset[str]:
        """The names of all agents."""
        return frozenset(self._agents)

    def __contains__(self, name: object) -> bool:
        return name in self._agents

    def __iter__(self) -> Iterator[AgentDeclaration]:
        return iter(self._agents.values())

    def __len__(self) -> int:
        return len(self._agents)

    def _put(self, mark: AgentMark, source: object) -> None:
        known = self._agents.get(mark.name)
        if known is None:
            self._agents[mark.name] = declare(mark, source)
            self._sources[mark.name] = source
        # A module may be loaded twice, and may import the agents of another one.
        elif not _is_same(self._sources[mark.name], source):
            raise Misconfigured(
                "agents",
                f"two agents have the name {mark.name!r}: {known.place} and {place_of(source)}",
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
