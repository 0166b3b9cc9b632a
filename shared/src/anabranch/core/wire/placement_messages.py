"""The message that no worker can run a task. Import it from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Message


class TaskUnserved(Message):
    """The offered chunks of a task wait unclaimed, and according to the list of workers no live one can take
    them."""

    type: Literal["unserved"] = "unserved"
    run_id: str
    group: str
    task: str
    iteration: tuple[int, ...] = ()
    admission: int = 0
    lacks: str = ""
    """What the workers with its agent lack of what the task requires; empty if none has the agent."""
