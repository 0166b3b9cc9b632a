"""What the intake keeps of accepted requests: the next ones of the same shape are not examined again. Pure.

Nothing is kept of a refused request, nor of one whose examination read a value of its context. A request that
differs in its shape, or in the keys that its session has, is examined as a whole. What is kept has no ids, no
labels and no values of a context; the project is part of the shape, so two projects share nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.bounded import BoundedDict, RepeatedKeys
from anabranch.core.request.admission import session_candidates
from anabranch.core.request.request_hash import body_hash
from anabranch.core.request.shape import FreeFields, Shape, Stencil, are_gaps, cut_gaps

KEPT_BYTES = 4_000_000
"""Bytes of shapes that an intake keeps, as JSON."""
MAX_SHARE = 8
"""A shape may have at most one such part of them: a larger one would push out many small ones."""
MAX_NOTED = 5_000
"""Shapes that were seen once and are remembered by their digest. A shape is kept when it is seen again: requests
that never repeat, such as those with a literal list, would fill the memory."""
_OVERHEAD = 500
"""Bytes of an entry beside its JSON, roughly."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the examination of a valid request found, for each request of its shape.

    Attributes:
        fixed: the fields of the canonical document that the shape determines, but its groups.
        groups, sorted_groups: the groups of that document; `sorted_groups` has sorted keys, for the hash of the
            body.
    """

    warnings: tuple[str, ...]
    fixed: Mapping[str, Any]
    groups: Stencil
    sorted_groups: Stencil

    @classmethod
    def of(cls, document: Mapping[str, Any], warnings: tuple[str, ...], shape: Shape) -> Accepted:
        """What is kept of a valid request with this shape and canonical document."""
        groups = cut_gaps(document["task_groups"], shape)
        return cls(
            warnings=warnings,
            fixed={
                name: value
                for name, value in document.items()
                if name != "task_groups" and name not in FreeFields.model_fields
            },
            groups=Stencil.of(orjson.dumps(groups)),
            sorted_groups=Stencil.of(orjson.dumps(groups, option=orjson.OPT_SORT_KEYS)),
        )

    def document(self, free: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
        """The canonical document of a request of this shape, with its groups as a fragment of JSON.

        Args:
            free: the canonical document of its `FreeFields`.
        """
        return {
            **free,
            **self.fixed,
            "task_groups": orjson.Fragment(self.groups.fill(shape.encoded_gaps)),
        }

    def body_hash(self, free: Mapping[str, Any], shape: Shape) -> str:
        """The hash of that document; see `request_hash`."""
        groups = orjson.Fragment(self.sorted_groups.fill(shape.sorted_gaps()))
        return body_hash({**free, **self.fixed, "task_groups": groups})

    @property
    def size(self) -> int:
        """Bytes that it takes, roughly."""
        return _OVERHEAD + self.groups.size + self.sorted_groups.size + len(orjson.dumps(self.fixed))


Key = tuple[bytes, tuple[str, ...]]
"""The digest of a shape, and the keys that the session has."""


class KnownShapes:
    """Accepted requests by shape, within a limit of bytes. It belongs to one set of limits and agents."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._accepted: BoundedDict[Key, Accepted] = BoundedDict(kept_bytes, weight=lambda each: each.size)
        self._candidates: BoundedDict[bytes, frozenset[str]] = BoundedDict(kept_bytes // 4, weight=_weight)
        self._seen: RepeatedKeys[Key] = RepeatedKeys(MAX_NOTED)

    def candidates(self, document: object, shape: Shape | None) -> frozenset[str]:
        """The keys that only the session of a request could provide; see `session_candidates`."""
        if shape is None:
            return session_candidates(document)
        known = self._candidates.get(shape.digest)
        if known is None:
            known = self._candidates[shape.digest] = session_candidates(document)
        return known

    def accepted(self, shape: Shape, session_keys: tuple[str, ...]) -> Accepted | None:
        """What is known of an earlier request of this shape."""
        return self._accepted.get((shape.digest, session_keys))

    def keep(self, found: Accepted, shape: Shape, session_keys: tuple[str, ...]) -> None:
        """Keep what the examination of a valid request found, which read no value of the context, if its shape
        was seen before."""
        if not self._seen.note((shape.digest, session_keys)):
            return
        # A text of the request may look like the name of a gap.
        is_exact = are_gaps([found.groups], shape) and are_gaps([found.sorted_groups], shape)
        if is_exact and found.size <= self._accepted.max_size // MAX_SHARE:
            self._accepted[shape.digest, session_keys] = found


def _weight(keys: frozenset[str]) -> int:
    return _OVERHEAD + sum(map(len, keys))
