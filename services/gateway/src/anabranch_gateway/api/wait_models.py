"""Shapes of the bodies about tasks that wait: signals, events and decisions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from anabranch_gateway.api.models import ClosedModel, Controlled, OpenModel


class Signalled(Controlled):
    name: str
    known: bool = Field(description="False if the run is not submitted yet: the signal is kept for it")


class PublishedEvent(OpenModel):
    id: str
    name: str
    key: str
    project: str


class Decided(OpenModel):
    """A decision that counts. `ended` is false if more people have to decide."""

    run_id: str
    group: str | None
    task: str | None
    index: int | None
    decision: str
    decision_id: str
    by: str | None
    ended: bool


class SignalBody(OpenModel):
    """Value and id of a signal; anything else is the value itself."""

    value: Any = None
    signal_id: str | None = Field(default=None, description="A repeated id counts once")


class EventBody(ClosedModel):
    """An event for tasks that wait for its name and key."""

    name: str
    key: str | float = Field(default="", description="The correlation key, such as the id of an order")
    id: str | None = Field(default=None, description="A repeated id is the same event for seven days")
    data: Any = Field(default=None, description="The value of the tasks that get it")
    ttl: float | str | None = Field(
        default=None, description='How long it is kept for tasks that wait later: seconds, or "15m"; default 24 h'
    )
    deliver: Literal["all", "one"] = Field(
        default="all", description="With `one`, one run gets it: the one that has waited longest"
    )
    project: str | None = Field(default=None, description="Default: the project of the caller")


class DecisionBody(ClosedModel):
    decision: str = Field(default="approve", description="One of the options of the approval")
    data: Any = Field(default=None, description="What was filled into the form")
    comment: str | None = None
    index: int | None = Field(default=None, ge=0, description="Member of an expanded task")
    iteration: list[int] | None = Field(default=None, description="Iterations of the loops around the task")
    by: str | None = Field(default=None, description="Who decides, if the gateway is open")
    decision_id: str | None = Field(default=None, description="A repeated id counts once")
