"""The checks of single features during a simulation: they see the records of the log and the calls of agents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anabranch.core.names import Names
from anabranch.ports import Incoming
from anabranch.testing.simulator.limit_checks import LimitCheck
from anabranch.testing.simulator.observer import Observer
from anabranch.testing.simulator.spending import has_spending
from anabranch.testing.simulator.spending_checks import SpendingCheck
from anabranch.testing.simulator.start_times import StartCheck


class Checks:
    """The checks of one simulation.

    Args:
        now: the broker's time, in seconds since the epoch.
    """

    def __init__(self, seed: str, names: Names, observer: Observer, now: Callable[[], float]) -> None:
        self._observer = observer
        self.limits = LimitCheck(names, observer.violated)
        self.spending = SpendingCheck(names, observer.violated, observer.expected_of, is_on=has_spending(seed))
        self._starts = StartCheck(now, observer.violated)

    def appended(self, record: Incoming) -> None:
        """Observe a record that was appended to the log."""
        self.limits.appended(record)
        self.spending.appended(record)

    def called(self, task: Any) -> None:
        """Observe a call of an agent."""
        self.spending.called(task)
        self._starts.called(task, self._observer.expected_of(task.run_id))
