"""A breaker as its documentation describes it, apart from its owner: counts outcomes and checks grants. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from anabranch.core.wire.messages import LimitRule


@dataclass(slots=True)
class BreakerModel:
    """One breaker. Times are in seconds since the epoch.

    Attributes:
        open_until: when members may try again; None if it is not open.
        is_trying: True if it is half open.
        outcomes: (time, attempts that passed, attempts that failed).
    """

    open_until: float | None = None
    is_trying: bool = False
    outcomes: list[tuple[float, int, int]] = field(default_factory=list)

    def observe(
        self, rule: LimitRule, now: float, counts: tuple[int, int], *, is_asked: bool, granted: int, held: int
    ) -> Iterator[str]:
        """Count new outcomes, and yield what is wrong with what was granted after them.

        Args:
            counts: attempts that passed, and that failed.
            is_asked: members waited for the breaker when it was decided.
            held: members that hold a grant now.
        """
        spec = rule.breaker
        assert spec is not None
        self._count(rule, now, *counts)
        if is_asked and self.open_until is not None and now >= self.open_until:
            self.open_until, self.is_trying, self.outcomes = None, True, []
        if granted and self.open_until is not None:
            yield f"the breaker {rule.name!r} let {granted} members start {self.open_until - now:g} s too early"
        if granted and self.is_trying and held > spec.probes:
            yield f"the half-open breaker {rule.name!r} let {held} members try, {spec.probes} may"

    def _count(self, rule: LimitRule, now: float, passed: int, failed: int) -> None:
        spec = rule.breaker
        assert spec is not None
        if self.open_until is not None or not (passed or failed):
            return
        self.outcomes.append((now, passed, failed))
        self.outcomes = [each for each in self.outcomes if each[0] > now - spec.window]
        all_passed, all_failed = (sum(each[index] for each in self.outcomes) for index in (1, 2))
        if self.is_trying:
            is_open, is_closed = all_failed > 0, all_passed >= spec.probes
        else:
            share = all_failed >= (spec.rate or 0.0) * (all_passed + all_failed)
            is_broken = share if spec.failures is None else all_failed >= spec.failures
            is_open, is_closed = is_broken and all_passed + all_failed >= spec.fewest_calls, False
        if is_open:
            self.open_until, self.is_trying, self.outcomes = now + spec.cooldown, False, []
        elif is_closed:
            self.is_trying, self.outcomes = False, []
