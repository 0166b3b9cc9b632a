"""Messages about loops. Import them from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Json, Message


class LoopItems(Message):
    """Items of a loop's `each`, a list in the store, from number `start` on. `last`: no further ones follow."""

    type: Literal["loop_items"] = "loop_items"
    run_id: str
    group: str
    task: str
    iteration: tuple[int, ...] = ()
    """Of the loops around the loop."""
    start: int
    items: tuple[Json, ...] = ()
    last: bool = False
    error: str | None = None
    """Why there are none to read."""
    admission: int | None = None
