"""The field `requires` of a task: quantities and labels, in the spelling of Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from anabranch.core.errors import Code
from anabranch.core.quantities import EXAMPLES
from anabranch.core.request.document import Document
from anabranch.core.requirements import read_amount, read_labels, show_amount

_QUANTITY_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*[0-9.]+([eE][+-]?[0-9]+|[A-Za-z]*)\s*$"},
    ],
    "description": f"a quantity as Kubernetes writes it, such as {EXAMPLES}",
}
_LABELS_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
        {"type": "array", "items": {"type": "string", "minLength": 1}},
    ],
    "description": "{name: value}, or a list of names and name=value",
}


def _checked(read: Callable[[object], Any], value: object) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise PydanticCustomError(Code.SCHEMA.value, "{reason}", {"reason": str(error)}) from error


def _quantity(resource: str) -> tuple[Any, ...]:
    return (
        BeforeValidator(partial(_checked, partial(read_amount, resource))),
        PlainSerializer(partial(show_amount, resource), return_type=str),
        WithJsonSchema(_QUANTITY_SCHEMA),
    )


Cpu = Annotated[int, *_quantity("cpu")]
Memory = Annotated[int, *_quantity("memory")]
Gpu = Annotated[int, *_quantity("gpu")]
Disk = Annotated[int, *_quantity("disk")]
Labels = Annotated[dict[str, str], BeforeValidator(partial(_checked, read_labels)), WithJsonSchema(_LABELS_SCHEMA)]


class Requires(Document):
    """What each member of a task requires of the worker that runs it. The members of such a task are offered one
    by one."""

    cpu: Cpu = 0
    """Processors: ``2``, ``"500m"``."""
    memory: Memory = 0
    """Bytes: ``"8Gi"``, ``"512M"``."""
    gpu: Gpu = 0
    """Graphics processors."""
    disk: Disk = 0
    """Bytes."""
    labels: Labels = Field(default_factory=dict)
    """Labels that the worker must have: ``{zone: eu}``, or ``[ssd, zone=eu]``."""

    def amount(self, resource: str) -> int:
        """The amount of a resource: of `cpu` and `gpu` in thousandths, of `memory` and `disk` in bytes."""
        found: int = getattr(self, resource)
        return found
