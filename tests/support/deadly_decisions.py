"""A module of agents that kills the session's owner while it decides about a report of the task `bad`."""

from __future__ import annotations

import os
from typing import Any

import anabranch_taskgroup.owner.handler
from anabranch import Task, agent
from anabranch.core.wire.messages import MembersReported
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.turn import DecisionConfig, Turn


@agent("idle")
async def idle(task: Task) -> None:
    """An agent, because a module of agents needs one."""


def deadly(rules: DecisionConfig, partition: PartitionState, delivery: DeliveredMessage) -> Turn:
    """Decide as usual, except about that report."""
    message: Any = delivery.message
    if isinstance(message, MembersReported) and message.task == "bad" and message.completed:
        os._exit(137)
    return decide(rules, partition, delivery)


# Not in the module that defines it: the handler has imported the name already.
anabranch_taskgroup.owner.handler.decide = deadly  # type: ignore[attr-defined]
