"""Parameters that several routes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Path, Query

RunPath = Annotated[str, Path(min_length=1, max_length=300, description="A run id or a request id")]
After = Annotated[str | None, Query(max_length=200, description="The id of the last event that the caller has")]
Types = Annotated[list[str] | None, Query(description="Event types, `run.*` for all of a kind; repeatable")]


def split_types(types: Sequence[str] | None) -> tuple[str, ...]:
    """The types of a repeatable parameter, each of which may list several with commas."""
    return tuple(word for each in types or () for part in each.split(",") if (word := part.strip()))
