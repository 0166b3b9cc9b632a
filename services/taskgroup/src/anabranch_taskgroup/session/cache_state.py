"""Members of a run that share one value of the cache. Data, no decisions."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MemberPlace:
    """A member of a task of the run."""

    group: str
    task: str
    index: int
    iteration: tuple[int, ...] = ()


@dataclass(slots=True)
class Flight:
    """A key whose value a member is computing, and the members that wait for it."""

    holder: MemberPlace
    waiting: list[MemberPlace] = field(default_factory=list)
