"""Gives random requests a `not_before` and a `deadline`, and checks that nothing runs before its start.

For the seeds that have schedules. `deadlines` checks when the runs end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.core.timestamps import utc_text
from anabranch.testing.simulator.scheduled import clocks_of

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

LATER = (-2.0, 1.0, 6.0, 15.0, 30.0)
SHORT, LONG = (0.5, 4.0, 12.0), 600.0
"""Seconds from the start of a run to its deadline. No run takes as long as the long one."""


def add_times(seed: str, number: int, expected: Expected) -> None:
    """Give a request a start, a deadline, both or none: no deadline where the clocks jump."""
    clocks, random = clocks_of(seed), Random(f"times {seed} {number}")
    request = expected.request
    start = clocks.epoch + 4.0 + random.choice(LATER)
    if random.random() < 0.5:
        request["not_before"] = utc_text(start)
    if random.random() < 0.4 and not clocks.jump:
        is_short = random.random() < 0.6
        seconds = random.choice(SHORT) if is_short else LONG
        request["deadline"] = utc_text(max(start, clocks.epoch + 4.0) + seconds)
        expected.is_exact = expected.is_exact and not is_short


class StartCheck:
    """Checks each call of an agent against the start of its run.

    Args:
        now: the broker's time, in seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float], report: Callable[[str], None]) -> None:
        self._now, self._report = now, report

    def called(self, task: Any, expected: Expected | None) -> None:
        """Observe a call of an agent."""
        start = expected.request.get("not_before") if expected is not None else None
        if start is not None and self._now() < datetime.fromisoformat(start).timestamp():
            self._report(f"{task.name} of {task.run_id} was called before {start}")
