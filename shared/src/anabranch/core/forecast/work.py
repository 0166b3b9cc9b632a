"""The work of a run, as the model of a forecast sees it. Pure data; `work_of_plan` makes it from a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from anabranch.core.forecast.samples import Samples
from anabranch.core.request.budget_fields import Limit
from anabranch.core.request.models import RetryPolicy

TaskKind = Literal["task", "wait", "run", "switch", "loop"]
End = Literal["completed", "failed", "skipped"]
COMPLETED: frozenset[End] = frozenset({"completed"})
FAILED: frozenset[End] = frozenset({"failed"})
NOT_FAILED: frozenset[End] = frozenset({"completed", "skipped"})
NOTHING = Samples([0.0])
ONE = Samples([1.0])


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts of a member: a sampled duration, and whether they fail.

    Attributes:
        seconds: durations of attempts that complete.
        failed_seconds: durations of those that fail.
        errors: types of errors, with their shares, which add up to 1.
    """

    seconds: Samples = NOTHING
    failed_seconds: Samples = NOTHING
    failure_rate: float = 0.0
    errors: tuple[tuple[str, float], ...] = (("Exception", 1.0),)
    usd: Samples = NOTHING
    tokens: Samples = NOTHING
    measured: int = 0
    """How many attempts were measured; 0: the values are certain."""
    factor: float = 1.0
    """By which all durations are longer."""


class Producer(NamedTuple):
    """A task, and how it has to end."""

    task: int
    ends: frozenset[End]


Need = tuple[Producer, ...]
"""A dependency: it is met if one of these tasks has ended as it has to."""


@dataclass(frozen=True, slots=True)
class WorkTask:
    """One task.

    Attributes:
        index: its index in the plan, and in `Work.tasks`.
        sources: the nodes whose end it waits for, see `Work`.
        needs: if one of these is not met, it is skipped.
        members: how many members it has.
        retries: the policies by which failed attempts are retried.
        tolerance: as `tolerated_failures`.
        uses_slot: it needs a slot of a worker.
        pools: the numbers of the limits that each of its running members takes a place of.
        rates: the numbers of the rates that the start of each attempt takes a token of.
        loop: the index of the innermost loop that repeats it, or None.
        skip_rate: how often it is skipped, by its own condition.
        branch: the index of its switch, and the case.
        chances: of a switch, of each case; the rest up to 1 chooses none.
        iterations: of a loop.
        delay: of a loop, between two iterations.
    """

    index: int
    group: int
    label: str
    kind: TaskKind = "task"
    sources: tuple[int, ...] = ()
    needs: tuple[Need, ...] = ()
    members: Samples = ONE
    attempts: Attempts = field(default_factory=Attempts)
    retries: tuple[RetryPolicy, ...] = ()
    tolerance: int | str = 0
    handles_failure: bool = False
    uses_slot: bool = True
    pools: tuple[int, ...] = ()
    rates: tuple[int, ...] = ()
    loop: int | None = None
    skip_rate: float = 0.0
    branch: tuple[int, int] | None = None
    chances: tuple[float, ...] = ()
    iterations: Samples = ONE
    delay: float = 0.0
    priority: int = 0
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class WorkGroup:
    """A group: its tasks, and how one of them ends the others."""

    name: str
    tasks: tuple[int, ...]
    fail_fast: bool = False
    need: int | None = None
    """This number of completed tasks (or members, of a group with one task) cancels the rest."""
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Places for members that run at once."""

    name: str
    limit: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Starts of members in a time."""

    name: str
    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that some tasks may use; `of` as in the plan."""

    of: str
    limit: Limit
    tasks: frozenset[int]


@dataclass(frozen=True, slots=True)
class Work:
    """All of a run.

    A node is a task, by its index, or the end of a loop, whose tasks wait for its begin: `ends` has the number of
    the node that is the end of each loop, and `end_sources` what that waits for.
    """

    tasks: tuple[WorkTask, ...]
    groups: tuple[WorkGroup, ...]
    pools: tuple[Places, ...] = ()
    rates: tuple[Rate, ...] = ()
    ends: Mapping[int, int] = field(default_factory=dict)
    end_sources: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    bodies: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The tasks that a loop repeats, directly or in a loop of its body."""
    budgets: tuple[Budget, ...] = ()
    timeout: float = 86_400.0
    latency: float = 0.0
    assumptions: Sequence[str] = ()
    """What was not measured, and what was assumed instead."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What runs members: `workers` with `slots` each. `offers`: what each offers of resources, if it is known."""

    workers: int = 1
    slots: int = 64
    programs: Mapping[str, int] = field(default_factory=dict)
    """The places of programs of each kind on a worker."""
    offers: str = ""

    @property
    def total(self) -> int:
        """The slots of all workers."""
        return self.workers * self.slots
