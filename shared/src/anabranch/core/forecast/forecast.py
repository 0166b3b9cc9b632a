"""Forecasts a run from many simulated ones: when it ends, what it costs, what bounds it, how many workers it can
use. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anabranch.core.forecast.distribution import Distribution, distribution_of, share, shares
from anabranch.core.forecast.draws import Draws
from anabranch.core.forecast.path import OWN
from anabranch.core.forecast.resources import UNLIMITED
from anabranch.core.forecast.trial import Outcome, Trial
from anabranch.core.forecast.work import Work
from anabranch.core.forecast.work_of_plan import Circumstances, work_of
from anabranch.core.request.planning import Plan
from anabranch.core.timestamps import utc_text

TRIALS = 200
MIN_TRIALS = 10
MAX_BATCHES = 100_000
"""Work of all simulated runs, after which no further one begins: a few seconds."""
SEARCH_TRIALS = 20
"""Simulated runs for each number of workers that is tried."""
CERTAIN = 0.95
"""A deadline holds with a number of workers if it does in this share of runs."""
MAX_WORKERS = 4_096
MAX_BOUNDS, MAX_TRIED = 8, 7


@dataclass(frozen=True, slots=True)
class Forecast:
    """The simulated runs with the given workers, and what follows from others with other numbers of workers.

    Attributes:
        useful_workers: how many workers the run could keep busy at its widest, if there were any number of them.
        by_workers: the finishing times with other numbers of workers.
        workers_for_deadline: the fewest with which the deadline holds; None if there is no deadline, or none do.
    """

    work: Work
    given: Circumstances
    outcomes: Sequence[Outcome]
    seed: int
    useful_workers: Distribution
    by_workers: Sequence[tuple[int, Distribution]]
    deadline: float | None = None
    workers_for_deadline: int | None = None

    @property
    def seconds(self) -> Distribution:
        """From the start of the run to its end."""
        return distribution_of(each.seconds for each in self.outcomes)

    def to_document(self) -> dict[str, Any]:
        """The field `forecast` of `plan --json`."""
        totals = zip(*(each.spent.total for each in self.outcomes), strict=True)
        usd, tokens, busy, executions = (distribution_of(each) for each in totals)
        return {
            "trials": len(self.outcomes),
            "seed": self.seed,
            "workers": self.given.capacity.workers,
            "slots": self.given.capacity.slots,
            "seconds": self.seconds.to_document(),
            "usd": usd.to_document(),
            "tokens": tokens.to_document(),
            "attempt_seconds": busy.to_document(),
            "executions": executions.to_document(),
            "status": shares(each.status for each in self.outcomes),
            **self._deadlines(),
            **({"budgets": found} if (found := list(self._budgets())) else {}),
            "bounds": list(self._bounds()),
            "critical": list(self._critical()),
            "useful_workers": self.useful_workers.to_document(),
            "by_workers": [{"workers": n, "seconds": found.to_document()} for n, found in self.by_workers],
            "assumptions": list(self.work.assumptions),
        }

    def _deadlines(self) -> dict[str, Any]:
        in_time = share([each.status != "timed_out" for each in self.outcomes])
        found: dict[str, Any] = {"timeout": {"seconds": self.work.timeout, "holds": in_time}}
        if self.deadline is not None:
            left = self.deadline - self.given.starts_at
            found["deadline"] = {
                "at": utc_text(self.deadline),
                "seconds": max(0.0, left),
                "holds": share([_is_in_time(each, left) for each in self.outcomes]),
                "workers": self.workers_for_deadline,
            }
        return found

    def _budgets(self) -> Iterator[dict[str, Any]]:
        for number, budget in enumerate(self.work.budgets):
            yield {"of": budget.of, "holds": share([each.spent.holds(number) for each in self.outcomes])}

    def _bounds(self) -> Iterator[dict[str, Any]]:
        """What the time of the run consists of: waiting for limits, and the work of tasks."""
        total, parts = 0.0, defaultdict[str, float](float)
        for outcome in self.outcomes:
            total += outcome.seconds
            for link in outcome.last.chain() if outcome.last is not None else ():
                label = self.work.tasks[link.task].label
                for reason, seconds in link.parts():
                    parts[f"{OWN} of {label}" if reason == OWN else reason] += seconds
        for reason, seconds in sorted(parts.items(), key=lambda each: (-each[1], each[0]))[:MAX_BOUNDS]:
            if seconds > 0:
                yield {"by": reason, "share": float(f"{seconds / total:.4g}")}

    def _critical(self) -> Iterator[dict[str, Any]]:
        """The tasks that decide when the run ends, in the order of the most frequent chain."""
        chains = [_chain(each) for each in self.outcomes]
        usual = next(iter(shares(" ".join(map(str, chain)) for chain in chains)), "")
        for index in map(int, usual.split()):
            yield {
                "task": self.work.tasks[index].label,
                "share": share([index in chain for chain in chains]),
            }


def forecast(
    plan: Plan, given: Circumstances, *, seed: int = 0, trials: int = TRIALS, tries_workers: bool = True
) -> Forecast:
    """Simulate a run many times.

    Args:
        trials: at most; fewer if the run is so large that each simulation is much work.
        tries_workers: simulate other numbers of workers, too.
    """
    work = work_of(plan, given)
    outcomes = _simulated(work, given.capacity.total, seed, trials)
    unlimited = _simulated(_with_workers(plan, given, MAX_WORKERS), UNLIMITED, seed, min(trials, SEARCH_TRIALS))
    slots = given.capacity.slots
    useful = distribution_of(max(1, -(-each.peak // slots)) for each in unlimited)
    found = Forecast(work, given, outcomes, seed, useful, [], plan.request.deadline)
    if not tries_workers:
        return found
    search = _WorkerSearch(plan, given, seed, min(trials, SEARCH_TRIALS))
    counts = sorted({*_tried(min(int(useful.p95), MAX_WORKERS)), given.capacity.workers})
    by_workers = [(count, search.seconds(count)) for count in counts]
    return replace(found, by_workers=by_workers, workers_for_deadline=search.for_deadline(counts))


class _WorkerSearch:
    """Simulates a run with other numbers of workers."""

    def __init__(self, plan: Plan, given: Circumstances, seed: int, trials: int) -> None:
        self._plan = plan
        self._given = given
        self._seed = seed
        self._trials = trials
        self._known: dict[int, list[Outcome]] = {}

    def _outcomes(self, workers: int) -> list[Outcome]:
        if workers not in self._known:
            work = _with_workers(self._plan, self._given, workers)
            slots = workers * self._given.capacity.slots
            self._known[workers] = _simulated(work, slots, self._seed, self._trials)
        return self._known[workers]

    def seconds(self, workers: int) -> Distribution:
        return distribution_of(each.seconds for each in self._outcomes(workers))

    def for_deadline(self, counts: Sequence[int]) -> int | None:
        """The fewest workers with which the deadline holds."""
        deadline = self._plan.request.deadline
        if deadline is None:
            return None
        left = deadline - self._given.starts_at

        def holds(workers: int) -> bool:
            return share([_is_in_time(each, left) for each in self._outcomes(workers)]) >= CERTAIN

        enough = next((count for count in counts if holds(count)), None)
        if enough is None:
            return None
        low = max((count for count in counts if count < enough), default=0)
        while enough - low > 1:
            middle = (low + enough) // 2
            low, enough = (low, middle) if holds(middle) else (middle, enough)
        return enough


def _with_workers(plan: Plan, given: Circumstances, workers: int) -> Work:
    return work_of(plan, replace(given, capacity=replace(given.capacity, workers=workers)))


def _simulated(work: Work, slots: int, seed: int, trials: int) -> list[Outcome]:
    """The outcomes of simulated runs. A run with the same seed draws the same numbers whatever the slots are, as
    far as its members start in the same order."""
    outcomes: list[Outcome] = []
    batches = 0
    for number in range(trials):
        if number >= min(MIN_TRIALS, trials // 4) and batches > MAX_BATCHES * trials // TRIALS:
            break
        outcomes.append(Trial(work, slots, Draws(seed * 1_000_003 + number)).run())
        batches += outcomes[-1].batches
    return outcomes


def _is_in_time(outcome: Outcome, left: float) -> bool:
    return outcome.status != "timed_out" and outcome.seconds <= left


def _chain(outcome: Outcome) -> list[int]:
    """The tasks of the chain that ended last, the first one first."""
    return [link.task for link in outcome.last.chain()][::-1] if outcome.last is not None else []


def _tried(most: int) -> list[int]:
    """Numbers of workers to try: in steps of a factor of two, or four if that would be too many."""
    factor = 2 if most <= 2**MAX_TRIED else 4
    found = [1]
    while found[-1] * factor < most:
        found.append(found[-1] * factor)
    return [*found, most] if most > 1 else found
