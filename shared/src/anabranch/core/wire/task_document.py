"""The task document for workers. It is part of an offer or stored, and not a message of a topic. Pure."""

from __future__ import annotations

from pydantic import Field

from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.wire.messages import Json, Message, TaskOrder


class TaskDocument(Message):
    """The task for its workers, common to all chunks: the order and the values that it uses."""

    order: TaskOrder
    group: str
    run_id: str
    session_id: str
    context: dict[str, Json] = Field(default_factory=dict)
    """Values of the dependencies; a large one as a reference."""
    references: tuple[str, ...] = ()
    """Keys of the values that are references."""
    template_context: dict[str, Json] = Field(default_factory=dict)
    traceparent: str | None = None
    """The request's `traceparent`."""
    trace_every: int = 0
    """Sampling interval: members whose index it divides have spans; 0 if the run has no spans."""
    arrays: dict[str, list[Json]] | None = None
    """The arrays of the expansion, if members are not made from slices in the offers."""
    iteration: tuple[int, ...] = ()
    """Numbers of the iterations that the task belongs to; see Offer."""
    loop: dict[str, Json] = Field(default_factory=dict)
    """The names of the loops around the task that its templates mention; those that tasks of the run's end see."""
    project: str = DEFAULT_PROJECT
    """Of the run."""
    loop_references: tuple[str, ...] = ()
    """Those whose values are references."""
