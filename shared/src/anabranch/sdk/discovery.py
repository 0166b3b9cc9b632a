"""Finds the agents of a module: in its variables, in lists and dicts in these, and among the marks made while the
module was executed.

Discovery runs no code of the module's objects: an object may raise for any attribute, or have every attribute.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from anabranch.sdk.marks import made_in, marks_of

MAX_DEPTH: Final = 5
"""Maximum nesting of lists and dicts that are searched."""
MAX_VALUES: Final = 100_000
"""Maximum number of values that are searched."""
_MAX_WRAPPERS: Final = 50
"""Maximum number of nested partials and methods that are followed; bounds a cycle of `__call__`."""


def marked_in(module: ModuleType) -> list[Any]:
    """All marked objects of a module, each once.

    An instance of a marked class is used instead of the class.

    Raises:
        TypeError: a marked object cannot be reached as an agent from the module's variables.
    """
    held = list(_held(module))
    marked = [value for value in held if marks_of(value)]
    instantiated = {type(value) for value in marked if not inspect.isclass(value)}
    found = [value for value in marked if not (inspect.isclass(value) and value in instantiated)]
    known = {id(mark) for value in found for mark in marks_of(value)}
    for target in made_in(module):
        if not {id(mark) for mark in marks_of(target)} & known:
            found.extend(_usable(module, target, held))
    return found


def function_of(handler: object) -> object:
    """The function that a call of a handler runs: within partials, bound and static methods, or its `__call__`.

    Functions wrapped by a decorator are not followed: the decorator's own function determines how it is called.
    """
    for _ in range(_MAX_WRAPPERS):
        kind = type(handler)
        if issubclass(kind, functools.partial):
            handler = functools.partial.func.__get__(handler)  # a subclass may override the attribute
        elif issubclass(kind, (MethodType, staticmethod, classmethod)):
            handler = handler.__func__  # type: ignore[attr-defined]
        elif kind is FunctionType or inspect.isbuiltin(handler):
            return handler
        else:
            call = inspect.getattr_static(handler if issubclass(kind, type) else kind, "__call__", None)
            return handler if call is None or type(call) not in _METHODS else function_of(call)
    return handler


_METHODS: Final = (FunctionType, staticmethod, classmethod, functools.partial, MethodType)


def is_async(handler: Callable[..., Any]) -> bool:
    """True if a call certainly returns a coroutine. A plain function, such as a decorator's, may return one
    too."""
    function = function_of(handler)
    return inspect.iscoroutinefunction(function)


def is_generator(handler: Callable[..., Any]) -> bool:
    """True if a call returns a generator or an async generator."""
    function = function_of(handler)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def place_of(source: object) -> str:
    """Where a function, class or instance is defined, for error messages: `module.name (file:line)`."""
    target = source if inspect.isclass(source) else _function_in(source) or type(source)
    label = f"{target.__module__}.{target.__qualname__}"
    code = getattr(inspect.unwrap(target), "__code__", None) if type(target) is FunctionType else None
    return f"{label} ({code.co_filename}:{code.co_firstlineno})" if code else label


def _function_in(source: object) -> FunctionType | None:
    """The function that a callable is, binds or wraps; for an instance its class."""
    if issubclass(type(source), (FunctionType, functools.partial, MethodType, staticmethod, classmethod)):
        source = function_of(source)
    else:
        source = inspect.getattr_static(source, "__wrapped__", None)
    return source if type(source) is FunctionType else None


# --- values of a module ---------------------------------------------------------------------------


def _held(module: ModuleType) -> Iterator[Any]:
    """The values of a module's variables, and of the lists and dicts among them, each once."""
    seen: set[int] = set()
    level: list[Any] = [value for name, value in vars(module).items() if not name.startswith("__")]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for value in level:
            if id(value) in seen:
                continue
            if len(seen) >= MAX_VALUES:
                return
            seen.add(id(value))
            yield value
            inner.extend(_items(value))
        level = inner


def _items(value: object) -> Iterable[Any]:
    """Items of a list, tuple or set, values of a dict. Uses the methods of the base class, so that no overriding
    method of the module's code is called."""
    for kind, iterate in _CONTAINERS:
        if issubclass(type(value), kind):
            return iterate(value)
    return ()


_CONTAINERS: Final[tuple[tuple[type, Callable[[Any], Iterable[Any]]], ...]] = (
    (dict, dict.values),
    (list, list.__iter__),
    (tuple, tuple.__iter__),
    (set, set.__iter__),
    (frozenset, frozenset.__iter__),
)


# --- objects marked during the import -------------------------------------------------------------


def _usable(module: ModuleType, target: Any, held: Iterable[Any]) -> list[Any]:
    """The callable for a marked object that no variable holds: the object itself, or its bound methods.

    Raises:
        TypeError: there is no callable.
    """
    path = target.__qualname__ if type(target) is FunctionType else ""
    owner = None if "<locals>" in path else _resolved(module, path.rpartition(".")[0])
    if inspect.isclass(owner):
        return _methods(module, owner, target, held)
    _refuse_hidden(module, path, target)
    return [target]


def _methods(module: ModuleType, owner: type, target: FunctionType, held: Iterable[Any]) -> list[Any]:
    own = vars(owner).get(target.__name__)
    if type(own) is classmethod:
        return [MethodType(target, owner)]
    if own is not target:  # a static method, or one that is wrapped
        return [target]
    bound = [MethodType(target, value) for value in held if issubclass(type(value), owner)]
    if not bound:
        raise TypeError(
            f"the agent {marks_of(target)[0].name!r} at {place_of(target)} is a method, and {module.__name__} "
            f"has no instance of {owner.__name__}: create one there, or mark a function"
        )
    return bound


def _refuse_hidden(module: ModuleType, path: str, target: object) -> None:
    """Refuse a decorator above `@agent` that hides the mark: its function is the one that the user means."""
    instead = vars(module).get(path)
    if instead is None or instead is target or marks_of(instead) or not callable(instead):
        return
    raise TypeError(
        f"the agent {marks_of(target)[0].name!r} at {place_of(target)} is hidden by a decorator above @agent, "
        "which does not copy the mark: put @agent on top, or use functools.wraps in the decorator"
    )


def _resolved(module: ModuleType, path: str) -> Any:
    """The object at a dotted path of classes in a module; None if there is none."""
    value: Any = module
    for name in path.split(".") if path else ("",):
        value = vars(value).get(name) if inspect.isclass(value) or value is module else None
    return value
