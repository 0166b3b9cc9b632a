"""Brings the document of a task to one spelling before its fields are checked. Pure.

Tolerant: what has a wrong type stays as it is, and the check of its field reports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import methodcaller
from typing import Any, Final

from pydantic_core import PydanticCustomError

from anabranch.core.errors import Code
from anabranch.core.names import key_problem

KINDS: Final = ("agent", "wait", "run", "switch", "loop")
"""The fields of a task of which it has exactly one: they say what kind of step it is."""
MADE_UP: Final = ("switch", "loop")
"""Kinds of steps that produce only the result keys that they name."""
_KINDS: Final = frozenset(KINDS)
_LIMITS: Final = ("concurrency", "rate_limit")
"""Fields of a task with an agent."""
USING: Final = ("budget", "estimate")
"""Fields of tasks that start members."""


class _Missing:
    """Stands for the missing agent of a task, so that the field reports it under its own name."""


MISSING: Final = _Missing()


def split_optional(dependency: str) -> tuple[str, bool]:
    """Split a dependency as written into its key and whether it is optional: ``"a?"`` -> ``("a", True)``."""
    if len(dependency) > 1 and dependency.endswith("?"):
        return dependency[:-1], True
    return dependency, False


def one_spelling(data: dict[str, Any]) -> dict[str, Any]:
    """Change the document of a task to its canonical spelling, and return it.

    Raises:
        PydanticCustomError: the task is of two kinds.
    """
    _mark_optional(_rename_agent_class(data))
    if len(found := _KINDS.intersection(data)) != 1 or "agent" not in found:
        _check_kind(data)
    if data.get("result_keys") is None:
        _name_result(data)
    return data


def is_made_name(name: str) -> bool:
    """True for the name of a step that the user did not name, see `lowering`."""
    return name.startswith("(") and name.endswith(")")


def _check_kind(data: dict[str, Any]) -> None:
    given = [name for name in KINDS if data.get(name) is not None]
    if given and "agent" not in given:
        data.pop("agent", None)
    if given and given[0] not in ("agent", "run") and any(data.get(name) is not None for name in USING):
        reason = f"has `{given[0]}` and starts no member, so it uses nothing of a budget"
        hint = "leave `budget` and `estimate` out, or give a budget to the group"
        raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": reason, "hint": hint})
    if given and "agent" not in given and data.get("requires") is not None:
        reason = "has `requires`, and no agent that would use it"
        raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": reason, "hint": "leave it out"})
    if given and given[0] != "agent" and data.get("cache") is not None:
        reason = f"has `cache` and `{given[0]}`: only values of agents are cached"
        raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": reason, "hint": "leave `cache` out"})
    if not given:
        data.setdefault("agent", MISSING)
    for name in _LIMITS if given and "agent" not in given else ():
        if data.get(name) is not None:
            reason = f"has `{name}`, but no agent: a limit is for members that a worker runs"
            raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": reason, "hint": "leave it out"})
    if len(given) > 1:
        reason = f"has both {' and '.join(f'`{name}`' for name in given)}: a task is of one kind"
        raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": reason, "hint": "keep one of them"})


def default_result(task: Mapping[str, Any]) -> str | None:
    """The result key of a task that names none: its own name. A step that lowering made has none.

    The name may be one that cannot be a key.
    """
    name = task.get("name")
    if not isinstance(name, str) or any(task.get(kind) is not None for kind in MADE_UP):
        return None
    has_agent = task.get("agent") is not None or task.get("agent_class") is not None
    return name if has_agent or not is_made_name(name) else None


def _name_result(data: dict[str, Any]) -> None:
    name = default_result(data)
    if name is None:
        return
    if key_problem(name) is not None or name.endswith("?"):
        reason = f"`result_keys` is missing, and the task's name {name[:100]!r} cannot be a key"
        raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": reason, "hint": "add `result_keys`"})
    data["result_keys"] = [name]


def _rename_agent_class(data: dict[str, Any]) -> dict[str, Any]:
    if data.get("agent_class") is None:
        data.pop("agent_class", None)
    elif data.get("agent") is None or data["agent"] == data["agent_class"]:
        data["agent"] = data.pop("agent_class")
    # Two different names both stay: the schema check refuses `agent_class` with a message of its own.
    return data


def _mark_optional(data: dict[str, Any]) -> dict[str, Any]:
    """Move the ``?`` of dependencies into ``optional_dependencies``; anything but a list of strings stays."""
    optional = data.get("optional_dependencies") or ()
    if not _are_strings(optional):
        return data
    marked = [split_optional(key)[0] for key in optional]
    for name in ("dependencies", "external_dependencies"):
        keys = data.get(name)
        if keys and _are_strings(keys):
            if any(map(_ENDS_IN_MARK, keys)):
                split = [split_optional(key) for key in keys]
                keys = [key for key, _ in split]
                marked += [key for key, is_optional in split if is_optional]
            data[name] = _unique(keys)
    if marked:
        data["optional_dependencies"] = _unique(marked)
    return data


_TEXT = frozenset({str})
_ENDS_IN_MARK = methodcaller("endswith", "?")


def _are_strings(value: object) -> bool:
    if not isinstance(value, (list, tuple)):
        return False
    # Fast path: the types of a long list are compared without a Python call for each item.
    return set(map(type, value)) <= _TEXT or all(isinstance(item, str) for item in value)


def _unique(keys: Any) -> list[str]:
    return list(dict.fromkeys(keys))
