"""Messages about runs that a service cannot continue or does not know, phases, and fragments. Import them from
`messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Message, PhaseName


class Fragment(Message):
    """A piece of a message too large for one record: number `number` (from 0) of `count`. Payload: the piece.

    `message_id` is a hash of the whole message's bytes. See `fragments`.
    """

    # The first field: readers recognise a fragment by the beginning of its JSON, `fragments.PREFIX`.
    message_id: str
    type: Literal["fragment"] = "fragment"
    number: int
    count: int


class FailRun(Message):
    """A service cannot continue a run: the run ends as failed, with this reason.

    `abandoned`: the sender has no state of the run's groups, or has dropped it, and sends no further outcomes.
    """

    type: Literal["fail_run"] = "fail_run"
    run_id: str
    error_type: str
    message: str
    group: str | None = None
    task: str | None = None
    abandoned: bool = False
    admission: int | None = None
    """The admission of the run (see OpenRun); None: the one that is open."""


class RunUnknown(Message):
    """The session's owner was asked about a run that it does not have. It may not have read the run's first record
    yet."""

    type: Literal["run_unknown"] = "run_unknown"
    run_id: str


class RunOverdue(Message):
    """The session's owner still has a run whose deadline is over. The run's owner answers with a stop if it has no
    open run of this admission; otherwise it stops the run at the deadline itself."""

    type: Literal["run_overdue"] = "run_overdue"
    run_id: str
    session_id: str
    admission: int


class CheckRun(Message):
    """The run's owner asks whether the session's owner has a run that it opened. Only the absence is answered."""

    type: Literal["check_run"] = "check_run"
    run_id: str
    admission: int


class PhaseBegan(Message):
    """A group of a run's end has started, because all groups before it have ended."""

    type: Literal["phase_began"] = "phase_began"
    run_id: str
    phase: PhaseName
    until: float
    """When the phase has ended at the latest, in seconds since the epoch."""
    admission: int | None = None
