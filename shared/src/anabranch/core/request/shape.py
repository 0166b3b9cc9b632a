"""The shape of a request: all of it that its checks and its plan depend on. Pure.

Most requests of an installation repeat a few shapes: the same tasks with other ids, other values of the context
and other inputs. What was found about one request holds for each later one of its shape, so a service keeps it by
the shape's digest. Not part of the shape are:

- the ids, the name, the labels and the times of the request (`FreeFields`);
- the values of its context, but not their keys. A check that reads a value is noticed by `ContextView`, and its
  result must not be kept;
- the templates of a task that have no placeholder, such as plain inputs. In the shape, each of them is a *gap*: a
  name such as ``$gap:0`` stands in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from pydantic import Field

from anabranch.core.request.fields import Json, Key, Name, SessionId, Timestamp
from anabranch.core.request.models import Document

_PIECE_BYTES = 80
"""Memory of a piece of a stencil beside its JSON: its object, and the number of its gap."""
TEMPLATES = ("message_template", "shared_instructions", "inputs")
"""The fields of a task that may have placeholders."""

_GAP_NAME = "$gap:{}"
_GAP_NAMES = re.compile(rb'"\$gap:(\d{1,9})"')
_MAYBE_PLACEHOLDER = re.compile(rb'\{[^"}]')
"""Found in the JSON of each template with a placeholder: there, the braces of objects are followed by ``"`` or
``}``, and the name in a placeholder begins with neither."""


class FreeFields(Document):
    """The fields of a request that its shape leaves open, with the checks of `Request`. The keys of the context
    belong to the shape, so only its values are checked here."""

    request_id: Key | None = None
    session_id: SessionId | None = None
    name: Name | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    context: dict[str, Json] = Field(default_factory=dict)
    not_before: Timestamp | None = None
    deadline: Timestamp | None = None


_FREE = tuple(FreeFields.model_fields)


@dataclass(frozen=True, slots=True)
class Shape:
    """A request, divided into its shape and what the shape leaves open.

    Attributes:
        digest: SHA-256 of the shape as JSON. The order of fields counts, because the order in which an expansion
            maps its arrays does.
        fixed: the fields of the request that belong to the shape, with the names of its gaps.
        free: the other fields, as sent and not validated; see `FreeFields`.
        gaps: the values in the gaps, by the numbers in their names.
        encoded_gaps: the same as JSON.
    """

    digest: bytes
    fixed: Mapping[str, Any]
    free: Mapping[str, Any]
    gaps: tuple[Any, ...]
    encoded_gaps: tuple[bytes, ...]

    def sorted_gaps(self) -> list[bytes]:
        """The values in the gaps as JSON with sorted keys."""
        return [orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in self.gaps]


def shape_of(request: Mapping[str, Any]) -> Shape | None:
    """The shape of the document of a request, as parsed from JSON; None if it cannot be valid."""
    context = request.get("context") or {}
    if not isinstance(context, dict):
        return None
    fixed, free = dict(request), {}
    for name in _FREE:
        if name in fixed:
            free[name] = fixed.pop(name)
    gaps: list[Any] = []
    encoded: list[bytes] = []
    try:
        fixed["task_groups"] = _with_gaps(fixed.get("task_groups"), gaps, encoded)
        digest = sha256(orjson.dumps((fixed, list(context)))).digest()
    except (TypeError, ValueError):  # nested too deeply for orjson
        return None
    return Shape(digest, fixed, free, tuple(gaps), tuple(encoded))


def _with_gaps(groups: Any, gaps: list[Any], encoded: list[bytes]) -> Any:
    """Copy the groups of a request with a gap for each template that has no placeholder. Adds the templates to
    `gaps`, and their JSON to `encoded`. Groups and tasks that are not objects stay as they are."""
    if not isinstance(groups, list):
        return groups
    copies: list[Any] = []
    for group in groups:
        tasks = group.get("tasks") if isinstance(group, dict) else None
        if not isinstance(tasks, list):
            copies.append(group)
            continue
        tasks_with_gaps = []
        for task in tasks:
            copy = dict(task) if isinstance(task, dict) else task
            for field in TEMPLATES if isinstance(task, dict) else ():
                value = task.get(field)
                if value is not None and not _MAYBE_PLACEHOLDER.search(text := orjson.dumps(value)):
                    copy[field] = _GAP_NAME.format(len(gaps))
                    gaps.append(value)
                    encoded.append(bytes(memoryview(text)))  # of its own size, see `fitted`
            tasks_with_gaps.append(copy)
        copies.append({**group, "tasks": tasks_with_gaps})
    return copies


def cut_gaps(task_groups: Sequence[Mapping[str, Any]], shape: Shape) -> list[dict[str, Any]]:
    """Copy the groups of the canonical document of a request, with the names of the gaps of its shape."""
    return [
        {**group, "tasks": list(map(_cut, group["tasks"], fixed["tasks"]))}
        for group, fixed in zip(task_groups, shape.fixed["task_groups"], strict=True)
    ]


def _cut(task: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    return {**task, **{field: fixed[field] for field in TEMPLATES if fixed.get(field) is not None}}


@dataclass(frozen=True, slots=True)
class Stencil:
    """JSON with gaps: `pieces[i]` is followed by the value of the gap with the number `gaps[i]`. There is one
    piece more than gaps."""

    pieces: tuple[bytes, ...]
    gaps: tuple[int, ...]

    @classmethod
    def of(cls, encoded: bytes) -> Stencil:
        """The stencil of JSON with the names of gaps. The caller checks them, because a text of the request may
        look like such a name; see `are_gaps`."""
        parts = _GAP_NAMES.split(encoded)
        return cls(tuple(parts[::2]), tuple(map(int, parts[1::2])))

    @classmethod
    def whole(cls, encoded: bytes) -> Stencil:
        """JSON without gaps."""
        return cls((encoded,), ())

    @property
    def size(self) -> int:
        """Bytes of memory, roughly."""
        return sum(map(len, self.pieces)) + _PIECE_BYTES * len(self.pieces)

    def fill(self, values: Sequence[bytes]) -> bytes:
        """The JSON with the values in its gaps."""
        parts = [b""] * (2 * len(self.gaps) + 1)
        parts[::2] = self.pieces
        parts[1::2] = map(values.__getitem__, self.gaps)
        return b"".join(parts)


def are_gaps(stencils: Iterable[Stencil], shape: Shape) -> bool:
    """True if the stencils have each gap of the shape once. If not, a text of the request looks like the name
    of one."""
    found = sorted(number for stencil in stencils for number in stencil.gaps)
    return found == list(range(len(shape.gaps)))
