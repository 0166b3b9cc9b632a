"""Marks of `@agent`: an attribute on the function, and an entry in the module that is being imported.

The entry lets discovery find agents that a loop or a factory creates and no variable holds. Looking up a mark runs
no code of the object, because a module may hold any object.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType, MethodType, ModuleType
from typing import Any, Final

from anabranch.core.request.limits import Breaker
from anabranch.core.request.models import RetryPolicy

MARK: Final = "__anabranch_agents__"
MADE: Final = "__anabranch_made__"
MAX_MADE: Final = 10_000
"""Maximum entries of a module: bounds the memory of a script that decorates functions in an endless loop."""


@dataclass(frozen=True, slots=True)
class AgentMark:
    """The mark of `@agent` on a function: the agent's name and the defaults for its tasks."""

    name: str
    retry: RetryPolicy | None = None
    timeout: float | None = None
    max_concurrency: int | None = None
    version: str | None = None
    capabilities: tuple[str, ...] = ()
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    breaker: Breaker | None = None


@dataclass(frozen=True, slots=True)
class _Made:
    """Objects marked while a module was executed. A reload executes it again, with another spec."""

    spec: object
    targets: list[object]


def put_mark(target: Any, mark: AgentMark) -> None:
    """Mark a function, class or object, and add it to the entries of the module that is being executed.

    Raises:
        TypeError: it takes no attributes, as a bound method.
    """
    try:
        # `vars`, not `getattr`: a marked subclass must not repeat the marks of its base class.
        setattr(target, MARK, (*vars(target).get(MARK, ()), mark))
    except (AttributeError, TypeError) as error:
        kind = type(target).__name__
        raise TypeError(
            f"the agent {mark.name!r} is a {kind}, which cannot be marked: wrap it in a def"
        ) from error
    note_made(MADE, target)


def note_made(key: str, target: object) -> None:
    """Add an object to the entries of the module that is being executed, under the name `key` in that module."""
    frame = _module_frame(sys._getframe(1))
    if frame is not None:
        _note(frame.f_globals, key, target)


def marks_of(value: object) -> tuple[AgentMark, ...]:
    """The marks of a function, class or instance; an instance of a marked class counts as marked."""
    holder = value.__func__ if type(value) is MethodType else value
    try:
        found = inspect.getattr_static(holder, MARK, ())
    except Exception:  # noqa: BLE001  # a metaclass may raise anything
        return ()
    return found if type(found) is tuple and all(type(each) is AgentMark for each in found) else ()


def made_in(module: ModuleType) -> list[Any]:
    """Objects marked as agents while this module was executed, in order."""
    return made_by(MADE, module)


def made_by(key: str, module: ModuleType) -> list[Any]:
    """The entries of a module under this name, in order."""
    made = vars(module).get(key)
    return list(made.targets) if type(made) is _Made and made.spec is vars(module).get("__spec__") else []


def _module_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that executes a module; None if there is none, as in a call after the import."""
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame


def _note(module: dict[str, Any], key: str, target: object) -> None:
    made, spec = module.get(key), module.get("__spec__")
    if type(made) is not _Made or made.spec is not spec:
        made = module[key] = _Made(spec, [])
    if len(made.targets) < MAX_MADE:
        made.targets.append(target)
