"""A task as its workers get it. It travels inside offers, or stands in the store: no message of a topic. Pure."""

from __future__ import annotations

from pydantic import Field

from anabranch.core.wire.messages import Json, Message, TaskOrder


class TaskDocument(Message):
    """A task as its workers get it, once for all chunks: the order and the values that it may use."""

    order: TaskOrder
    group: str
    run_id: str
    session_id: str
    context: dict[str, Json] = Field(default_factory=dict)
    """Values of the dependencies; a reference for a large one."""
    references: tuple[str, ...] = ()
    """Which of them are references."""
    template_context: dict[str, Json] = Field(default_factory=dict)
    traceparent: str | None = None
    """As it came with the request."""
    trace_every: int = 0
    """Members whose index it divides have spans; 0 where the run has none."""
    arrays: dict[str, list[Json]] | None = None
    """The expansion's arrays, where members are not made from slices."""
