"""The plans of submitted requests: compiled once for each shape, and kept within a limit of bytes. Pure.

What is kept has no ids, no labels and no values of a context; the project is part of the shape. Nothing is kept of
a request that cannot be planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anabranch.core.bounded import BoundedDict, RepeatedKeys
from anabranch.core.request.models import Request
from anabranch.core.request.planning import plan
from anabranch.core.request.shape import FreeFields, are_gaps, shape_of
from anabranch.core.wire.messages import SubmitRun
from anabranch_agency.run.planning import CompiledPlan, compiled

KEPT_BYTES = 4_000_000
"""Bytes of the plans that are kept."""
MAX_SHARE = 8
"""A plan may have at most one such part of them: a larger one would push out many small ones."""
MAX_NOTED = 5_000
"""Shapes that were planned once and are remembered by their digest. A plan is kept when its shape comes again."""


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A compiled plan, and what it leaves open in one request.

    Attributes:
        gaps: the JSON of the values in the gaps of the plan's orders.
    """

    plan: CompiledPlan
    free: FreeFields
    gaps: tuple[bytes, ...]

    def visible_context(self) -> dict[str, Any]:
        """The request's context without the keys that its tasks produce."""
        produced = self.plan.produced
        return {key: value for key, value in self.free.context.items() if key not in produced}


class KnownPlans:
    """The compiled plans of the last shapes."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._plans: BoundedDict[tuple[bytes, tuple[str, ...]], CompiledPlan] = BoundedDict(
            kept_bytes, weight=lambda each: each.size
        )
        self._seen: RepeatedKeys[tuple[bytes, tuple[str, ...]]] = RepeatedKeys(MAX_NOTED)

    def of(self, submit: SubmitRun) -> PlannedRequest:
        """The plan of a submitted request.

        Raises:
            RequestRefused: it has a cycle or a dependency that nothing provides.
            ValidationError: it is not valid, as its intake has another release.
        """
        shape = shape_of(submit.request)
        if shape is None:
            return _planned(submit.request, submit.session_keys)
        key = shape.digest, submit.session_keys
        known = self._plans.get(key)
        if known is None:
            known = _compiled({**shape.free, **shape.fixed}, submit.session_keys, with_gaps=True)
            if not are_gaps([group.tasks for group in known.groups], shape):
                # A text of the request looks like the name of a gap.
                return _planned(submit.request, submit.session_keys)
            if known.size <= self._plans.max_size // MAX_SHARE and self._seen.note(key):
                self._plans[key] = known
        return PlannedRequest(known, FreeFields.model_validate(shape.free), shape.encoded_gaps)


def _planned(request: Mapping[str, Any], session_keys: tuple[str, ...]) -> PlannedRequest:
    """The plan of one request, whatever its shape."""
    plan = _compiled(request, session_keys, with_gaps=False)
    free = {name: request[name] for name in FreeFields.model_fields if name in request}
    return PlannedRequest(plan, FreeFields.model_validate(free), ())


def _compiled(request: Mapping[str, Any], session_keys: tuple[str, ...], *, with_gaps: bool) -> CompiledPlan:
    return compiled(plan(Request.model_validate(request), session_keys), with_gaps=with_gaps)
