"""The chain of tasks that decided when a simulated run ended, and what each of them waited for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

OWN = "work"
"""The part of a task's time in which it waited for no limit: its slowest members, and delays of retries."""


@dataclass(frozen=True, slots=True)
class Link:
    """A task of the chain: from the time when all that it waits for had ended to its end.

    Attributes:
        task: its index.
        before: the task whose end it waited for last.
        blocked: seconds in which its next member waited, by what it waited for.
    """

    task: int
    began: float
    ended: float
    before: Link | None
    blocked: Mapping[str, float]

    def chain(self) -> Iterator[Link]:
        """This task and all before, the last one first."""
        link: Link | None = self
        while link is not None:
            yield link
            link = link.before

    def parts(self) -> Iterator[tuple[str, float]]:
        """Its time, by what it waited for."""
        rest = self.ended - self.began
        for reason, seconds in self.blocked.items():
            yield reason, seconds
            rest -= seconds
        yield OWN, max(0.0, rest)
