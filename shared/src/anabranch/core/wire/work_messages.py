"""Messages about work that outlives its worker: containers and Jobs. Import them from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Message


class WorkRef(Message):
    """The work of one attempt of a member, as its labels on the platform name it.

    `admission` is that of the run, `redrive` the number of times that the member was redriven before.
    """

    group: str
    task: str
    iteration: tuple[int, ...] = ()
    index: int
    attempt: int
    redrive: int = 0
    admission: int = 0
    handle: str


class WorkFound(Message):
    """A worker has found work of a run on a platform, and does not hold its members: the owner answers which of it
    no open member needs, and that worker stops it."""

    type: Literal["work_found"] = "work_found"
    run_id: str
    session_id: str
    worker: str
    kind: str
    """Of the engine of programs that has the work."""
    works: tuple[WorkRef, ...]
