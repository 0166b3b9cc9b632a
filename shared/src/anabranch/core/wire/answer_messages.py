"""Messages by which services answer for runs that they cannot go on with, and fragments of messages. Import them
from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Message


class Fragment(Message):
    """A piece of a message too large for one record: number `number` (from 0) of `count`. Payload: the piece.

    `message_id` is a hash of the whole message's bytes. See `fragments`.
    """

    message_id: str
    type: Literal["fragment"] = "fragment"
    number: int
    count: int


class FailRun(Message):
    """A service cannot go on with a run: it ends as failed, with this as the reason.

    `abandoned` says that the sender knows nothing of the run's groups, or no longer does: nothing that it has not
    told will come from it.
    """

    type: Literal["fail_run"] = "fail_run"
    run_id: str
    error_type: str
    message: str
    group: str | None = None
    task: str | None = None
    abandoned: bool = False
    admission: int | None = None
    """Which admission of the run this is about (see OpenRun); None: the one that is open."""


class RunUnknown(Message):
    """The session's owner was asked to look after a run that it does not know. It may not have reached it yet."""

    type: Literal["run_unknown"] = "run_unknown"
    run_id: str


class RunOverdue(Message):
    """The session's owner still has a run whose deadline is over. A run's owner that has no open run of this
    admission answers with a stop; any other stops its run at the deadline by itself."""

    type: Literal["run_overdue"] = "run_overdue"
    run_id: str
    session_id: str
    admission: int


class CheckRun(Message):
    """The run's owner asks whether the session's owner has a run that it opened. Only "no" is answered."""

    type: Literal["check_run"] = "check_run"
    run_id: str
    admission: int
