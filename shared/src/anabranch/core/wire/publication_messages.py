"""The messages about published events, between the owner of an event's address and the owners of sessions.

An event is addressed by its project, name and key (`core.event_addresses`). One partition of `runs` has everything
under an address: the publications and the waits. `run_id` of a message on `runs` is the address, by which the
owner keeps it, has timers for it and restores it from snapshots, as it does a run. Import them from `messages`.
"""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Json, Message, Spans


class PublishEvent(Message):
    """An event was published. Payload: one segment, its data as JSON.

    The same `event_id` at one address is the same event for seven days.
    """

    type: Literal["event"] = "event"
    run_id: str
    event_id: str
    project: str
    name: str
    key: str
    ttl: float
    """Seconds for which it is kept for waits that open later."""
    deliver: Literal["all", "one"] = "all"
    """`one`: one run gets it, the one that has waited longest."""
    origin: str = ""
    """`topic/partition/offset` of the record on the requests topic."""


class EventWaiter(Message):
    """A step that waits for events. Its members have an index each."""

    run_id: str
    session_id: str
    group: str
    task: str
    iteration: tuple[int, ...] = ()
    admission: int = 0
    """Of the run, see OpenRun."""


class OpenEventWait(Message):
    """Members wait for events of an address. It is repeated by each new owner of the session while they do."""

    type: Literal["event_wait_opened"] = "event_wait_opened"
    run_id: str
    waiter: EventWaiter
    spans: Spans
    when: Json = None
    """The condition over the data of an event; null: any event."""
    deliver: Literal["all", "one"] = "all"
    """`one`: of all waits that say so, one gets an event."""
    collect: int = 1
    """Number of events that each member waits for."""
    until: float
    """The wait is forgotten at this time, in seconds since the epoch, if nothing has closed it before."""


class CloseEventWait(Message):
    """Members wait no longer: they have timed out, or were stopped."""

    type: Literal["event_wait_closed"] = "event_wait_closed"
    run_id: str
    waiter: EventWaiter
    spans: Spans


class AnswerEvent(Message):
    """What became of an event that was delivered to a member. Each delivery is answered."""

    type: Literal["event_answered"] = "event_answered"
    run_id: str
    waiter: EventWaiter
    index: int
    number: int
    """Of the event, see DeliverEvent."""
    taken: bool
    """False: the event is given to another wait."""
    is_open: bool
    """True if the member waits for further events."""
    deliver: Literal["all", "one"] = "all"


class DeliverEvent(Message):
    """An event for a member that waits for one, to the owner of its session. Payload: its data as JSON."""

    type: Literal["event_delivered"] = "event_delivered"
    run_id: str
    group: str
    task: str
    index: int
    iteration: tuple[int, ...] = ()
    admission: int | None = None
    session_id: str
    address: str
    number: int
    """Distinguishes the events of an address: the position of the publication on its log."""
    event_id: str
    deliver: Literal["all", "one"] = "all"
