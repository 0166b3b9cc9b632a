"""Finds waits that the run's timeout ends before they have taken their own time. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.core.durations import format_duration
from anabranch.core.request.models import Request


def waits_beyond_the_run(request: Request) -> Iterator[str]:
    """A warning for each wait whose duration or timeout is as long as the run's timeout, or longer."""
    for group in request.task_groups:
        for task in group.tasks:
            if task.wait is None:
                continue
            for what, seconds in (("wait", task.wait.for_), ("timeout", task.wait.timeout)):
                if isinstance(seconds, (int, float)) and seconds >= request.timeout:
                    yield (
                        f"the {what} of {group.name}/{task.name} takes {format_duration(seconds)}, but the run "
                        f"times out after {format_duration(request.timeout)}: give the request a longer `timeout`"
                    )
                    break
