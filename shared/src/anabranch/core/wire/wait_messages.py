"""The messages about steps that wait, to the owner of a session. Import them from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Json, Message


class SignalRun(Message):
    """A signal for a run, which ends one wait for its name. Payload: one segment, the value as JSON.

    A repeated `signal_id` counts once. A signal that no wait takes is kept for the first one that opens.
    """

    type: Literal["signal"] = "signal"
    run_id: str
    name: str
    signal_id: str
    admission: int | None = None


class DecideApproval(Message):
    """A person's decision about a task that waits for one. A repeated `decision_id` counts once.

    Without `group`, the task is the first of this name that waits for a decision; without `index`, the member is
    the first that waits.
    """

    type: Literal["decide"] = "decide"
    run_id: str
    task: str
    decision: str
    decision_id: str
    group: str | None = None
    index: int | None = None
    iteration: tuple[int, ...] | None = None
    data: Json = None
    comment: str = ""
    by: str | None = None
    admission: int | None = None


class WaitsRendered(Message):
    """The values in the placeholders of a wait were read from the store, and filled in for some of its members.

    Payload: one segment, a JSON array of [due, name, identifier, error] for each member from `first` on (see
    `core.waits.rendering`). With `error` there is none: the task fails.
    """

    type: Literal["waits_rendered"] = "waits_rendered"
    run_id: str
    group: str
    task: str
    first: int = 0
    total: int = 1
    """Number of members of the task."""
    error: str | None = None
    iteration: tuple[int, ...] = ()
    """The iteration of the loops around the task."""
    admission: int | None = None
