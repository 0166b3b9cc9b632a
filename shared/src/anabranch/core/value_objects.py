"""The decorator of small classes of values that are made for each record or task. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value_object(cls: type[T]) -> type[T]:
    """Make a class a slotted dataclass of values that never change.

    The type checker refuses to set a field, as it does for a `dataclass(frozen=True)`. That one refuses it at run
    time too, for which its constructor sets each field by a call: it takes three times as long as this one's.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
