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
    """A registered agent. `timeout` is of one attempt, in seconds; `max_concurrency` bounds one worker.

    `handler` takes a `Task`; where `is_async` it returns an awaitable of the result, else the result.
    """

    name: str
    handler: Callable[[Any], Any]
    is_async: bool
    retry: RetryPolicy | None = None
    timeout: float | None = None
    max_concurrency: int | None = None
    place: str = ""
    """Where it is defined, for people: `module.function (file:line)`."""
    executor: ExecutorKind = "in-process"


def agent(
    name: str,
    *,
    retry: RetryPolicy | Mapping[str, Any] | None = None,
    timeout: float | str | None = None,
    max_concurrency: int | None = None,
) -> Callable[[F], F]:
    """Mark a function as the agent `name`, and return it as it is.

    An `async def` runs on the worker's loop, a `def` in its bounded pool of threads. A class with a
    `__call__` may be marked too: each registry makes one instance of it, without arguments.

    Args:
        retry: policy for failed attempts, in the spelling of a request; a request's own policy beats it.
        timeout: of one attempt, seconds or text such as `"2m"`; a request's own timeout beats it.
        max_concurrency: calls that may run at once in one worker.

    Raises:
        TypeError: no name was given, or what is marked is a generator.
        ValueError: the name, the policy, the timeout or the bound cannot be used; the message says which.
    """
    if not isinstance(name, str):
        raise TypeError('an agent has a name: write @agent("name"), not @agent')
    mark = AgentMark(name, _policy(name, retry), _timeout(name, timeout), _bound(name, max_concurrency))
    if problem := name_problem(name):
        raise ValueError(f"agent name: {problem}")

    def decorate(function: F) -> F:
        _refuse_generators(name, function)
        put_mark(function, mark)
        return function

    return decorate


class Registry:
    """The agents that one worker, plan or embedded system knows, by name."""

    def __init__(self) -> None:
        self._agents: dict[str, AgentDeclaration] = {}
        self._sources: dict[str, object] = {}

    @classmethod
    def builtin(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """A registry with the built-in agents `echo`, `sleep`, `http` and `fail`.

        Args:
            environ: where `ANABRANCH_HTTP_ALLOW` is looked up.
        """
        from anabranch.sdk.builtin import builtin_agents

        registry = cls()
        for each in builtin_agents(environ):
            registry.add(each)
        return registry

    def add(self, source: Callable[..., Any] | ModuleType) -> Self:
        """Add a marked function, class or instance, or all of these in a module.

        Raises:
            TypeError: nothing in it is marked, or it cannot be called with one task.
            Misconfigured: the name is taken by another one; both places are named.
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
            Misconfigured: it cannot be imported, has no agent, or one whose name is taken.
        """
        try:
            return self.add(import_module(module))
        except TypeError as error:
            raise Misconfigured("agents", str(error)) from error

    def wrapped(self, wrap: Callable[[AgentDeclaration], AgentDeclaration]) -> Self:
        """A registry of the same agents, each wrapped by `wrap` under the same name."""
        made = type(self)()
        made._agents = {name: wrap(each) for name, each in self._agents.items()}
        made._sources = dict(self._sources)
        return made

    def get(self, name: str) -> AgentDeclaration | None:
        """The agent of that name, or None."""
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
        elif not _is_same(self._sources[mark.name], source):
            raise Misconfigured(
                "agents",
                f"two agents have the name {mark.name!r}: {known.place} and {place_of(source)}",
                "rename one of them, or load only one of the modules",
            )


def declare(mark: AgentMark, source: object) -> AgentDeclaration:
    """The declaration of a marked function, class (of which an instance is made) or instance.

    Raises:
        TypeError: it cannot be called with one task.
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
    except BaseException as error:
        reason = f"the agent {mark.name!r} cannot be made: {place_of(source)}() raised {one_line(error)}"
        fix = "a class that is marked is made without arguments, once in each process"
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
            f"the agent {name!r} at {place_of(function)} is a generator; a task has one result: "
            "collect what it yields in a list and return that"
        )


def _check_takes_a_task(name: str, handler: Callable[..., Any], source: object) -> None:
    try:
        _called(handler).bind(None)
    except TypeError as error:
        raise TypeError(
            f"the agent {name!r} at {place_of(source)} has to take one argument, the task: {error}"
        ) from error
    except ValueError:  # a callable of C code without a signature: it is found out at its first call
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
        raise ValueError(f"timeout of the agent {name!r}: 0 leaves it no time; leave it out for none")
    return seconds


def _bound(name: str, max_concurrency: int | None) -> int | None:
    if max_concurrency is not None and max_concurrency < 1:
        raise ValueError(f"max_concurrency of the agent {name!r} is {max_concurrency}: 1 at least")
    return max_concurrency
