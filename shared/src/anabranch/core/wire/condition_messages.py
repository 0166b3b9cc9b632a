"""The message about conditions that the shell evaluated. Import it from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Message


class ConditionJudged(Message):
    """Conditions of a task were evaluated over values that are too large for the owner's state."""

    type: Literal["condition_judged"] = "condition_judged"
    run_id: str
    group: str
    task: str
    iteration: tuple[int, ...] = ()
    purpose: str
    """Which conditions of the task: `when`, or those of its kind."""
    case: int = -1
    """The number of the first condition that is true, from 0; -1: none."""
    because: str = ""
    """Why none is true."""
    error: str | None = None
    """Why they cannot be evaluated."""
    admission: int | None = None
