"""Runs that are opened by their orders on the topic `groups`, in an embedded system, without a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anabranch.core.wire import messages as m
from anabranch.core.wire.codec import RUNS, encode
from anabranch.ports import Outgoing
from anabranch.testing import System

RUN, SESSION = "r", "s"


def open_orders(system: System, groups: Mapping[str, Sequence[m.TaskOrder]], **opened: Any) -> None:
    """Open a run "r" with these tasks. The run's owner does not know it, and drops what it gets of it."""
    opening = m.OpenRun(
        run_id=RUN, request_id="q", session_id=SESSION, groups=tuple(groups), deadline=4e9, **opened
    )
    starts = [m.StartGroup(run_id=RUN, group=name, tasks=tuple(tasks)) for name, tasks in groups.items()]
    feed(system, opening, *starts)


def feed(system: System, *messages: m.Message) -> None:
    """Append messages to the topic `groups`."""
    names = system.embedded.names
    records = [Outgoing(names.groups, SESSION, encode(each)) for each in messages]
    system.wait(system.embedded.log.publish(records))


def finished(system: System, group: str = "g", patience: float = 1_000.0) -> m.GroupFinished:
    """The end of a group, once it is on the topic `runs`."""
    until = system.elapsed + patience
    while system.elapsed < until:
        for record in system.records("runs"):
            message = RUNS.decode(record.value).message
            if isinstance(message, m.GroupFinished) and message.group == group:
                return message
        system.advance(1.0)
    raise AssertionError(f"group {group} has not ended within {patience} s")
