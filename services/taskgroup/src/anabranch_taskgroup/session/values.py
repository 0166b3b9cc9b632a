"""What a task of a run sees of a key: a value, or its absence. Import them from `state`."""

from __future__ import annotations

from anabranch.core.value_objects import value_object
from anabranch.core.wire.messages import Json


@value_object
class Value:
    """The value of a key within a run: `data` is JSON, or a reference where `is_reference`."""

    data: Json
    is_reference: bool = False


@value_object
class Absent:
    """A key that has no value in this run, with the reason. `by_failure`: a failure that nothing handled is the
    cause, so that a sequence of tasks stops."""

    reason: str
    by_failure: bool = False
