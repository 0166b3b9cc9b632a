"""What the shell of a session's owner has read from the store, appended to the log for the owner's decisions.
Import the messages from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Json, Message


class ValueFound(Message):
    """A value from outside the run, as it was when the run first used it."""

    type: Literal["value_found"] = "value_found"
    run_id: str
    key: str
    value: Json = None
    is_reference: bool | None = None
    """True if `value` is a reference to the stored value. Null in records of earlier releases, in which every
    value that looks like a reference into the run's session is one."""
    error: str | None = None
    """The reason if the stored value is invalid: tasks that wait for it fail."""


class KeyReduced(Message):
    """Contributions to a key with a policy, too large for the owner's state, were read and merged: `value`, or
    `count` and `bytes` of a large value, or the error."""

    type: Literal["key_reduced"] = "key_reduced"
    run_id: str
    key: str
    value: Json = None
    count: int | None = None
    bytes: int = 0
    error: str | None = None
    writers: tuple[str, ...] = ()
    """With an error: the writers of contradicting values."""
    admission: int | None = None


class ArrayCounted(Message):
    """The arrays of an expansion, too large for the owner's state, were read: the number of members, or the
    error."""

    type: Literal["array_counted"] = "array_counted"
    run_id: str
    group: str
    task: str
    count: int = 0
    error: str | None = None
    iteration: tuple[int, ...] = ()
    """The iteration of the loops around the task."""
    admission: int | None = None
