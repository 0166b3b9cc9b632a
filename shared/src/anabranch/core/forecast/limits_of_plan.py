"""The limits that the tasks of a plan share, as numbered places and rates of a forecast. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.core.forecast.work import Capacity, Places, Rate
from anabranch.core.request.configured_limits import ConfiguredLimits
from anabranch.core.request.limits import RateLimit
from anabranch.core.request.models import Request
from anabranch.core.request.planning import PlannedTask, own_names
from anabranch.core.requirements import RESOURCES, Required, missing_labels, parse_offers
from anabranch.core.templates import placeholders

MANY = 1 << 40
"""More places than a run has members."""


class LimitTable:
    """Numbers each limit of a run once, however many tasks share it."""

    def __init__(self, request: Request, capacity: Capacity, configured: ConfiguredLimits | None) -> None:
        self._capacity = capacity
        self._offers = parse_offers(capacity.offers) if capacity.offers else None
        self._groups = {group.name: group.max_concurrency for group in request.task_groups}
        self._of_project = None if configured is None else configured.projects.get(request.project)
        self._of_agents = {} if configured is None else configured.agents
        self._pools: dict[str, Places] = {}
        self._rates: dict[str, Rate] = {}
        self._numbers: dict[str, int] = {}
        """Of places and of rates, each by name."""

    @property
    def pools(self) -> tuple[Places, ...]:
        """The places, by their numbers."""
        return tuple(self._pools.values())

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates, by their numbers."""
        return tuple(self._rates.values())

    def of_task(
        self, task: PlannedTask, kind: str, agent_most: int | None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The numbers of the places and rates of a task.

        Args:
            kind: of its program, empty if it has none.
            agent_most: calls of its agent that one worker makes at once.
        """
        if not task.spec.agent:
            return (), ()
        pools = [*self._of_request(task), *self._of_workers(task, kind, agent_most), *self._of_configuration(task)]
        return tuple(self._numbers[name] for name in dict.fromkeys(pools)), tuple(self._rates_of(task))

    def unlimited(self, task: PlannedTask) -> Iterator[str]:
        """What cannot be counted of the limits of a task."""
        named = {"concurrency": task.spec.concurrency, "rate_limit": task.spec.rate_limit}
        for name, limit in named.items():
            if limit is not None and limit.key and _is_of_member(limit.key, task):
                yield f"the key of its `{name}` differs between members, and is not counted"
        if task.spec.requires is not None and self._offers is None:
            yield "what it requires of workers is not counted, because what they offer is not known"

    def _of_request(self, task: PlannedTask) -> Iterator[str]:
        spec, of_group = task.spec, self._groups.get(task.group)
        if spec.max_concurrency is not None:
            yield self._places(f"max_concurrency of {task.label}", spec.max_concurrency)
        if of_group is not None:
            yield self._places(f"max_concurrency of {task.group}", of_group)
        if spec.concurrency is not None and not _is_of_member(spec.concurrency.key, task):
            yield self._places(f"concurrency {spec.concurrency.key}", spec.concurrency.limit)

    def _of_workers(self, task: PlannedTask, kind: str, agent_most: int | None) -> Iterator[str]:
        workers = self._capacity.workers
        if agent_most is not None:
            yield self._places(f"max_concurrency of agent {task.spec.agent}", agent_most * workers)
        if kind and kind in self._capacity.programs:
            yield self._places(f"{kind} programs", self._capacity.programs[kind] * workers)
        if task.spec.requires is not None and self._offers is not None:
            yield self._places(f"requires of {task.label}", self._fitting(task.spec.requires) * workers)

    def _fitting(self, required: Required) -> int:
        """How many members fit on one worker."""
        assert self._offers is not None
        if missing_labels(required, self._offers):
            return 0
        offered = self._offers
        counts = [offered.amount(each) // amount for each in RESOURCES if (amount := required.amount(each)) > 0]
        return min(counts, default=MANY)

    def _of_configuration(self, task: PlannedTask) -> Iterator[str]:
        if self._of_project is not None and self._of_project.concurrency is not None:
            yield self._places("concurrency of the project", self._of_project.concurrency.limit)
        of_agent = self._of_agents.get(task.spec.agent)
        if of_agent is not None and of_agent.concurrency is not None:
            key = of_agent.concurrency.key or task.spec.agent
            yield self._places(f"concurrency of agent {key}", of_agent.concurrency.limit)

    def _places(self, name: str, limit: int) -> str:
        known = self._pools.get(name)
        self._numbers.setdefault(name, len(self._pools))
        # Requests may name different limits for one key.
        if known is None or limit < known.limit:
            self._pools[name] = Places(name, limit)
        return name

    def _rates_of(self, task: PlannedTask) -> Iterator[int]:
        found: dict[str, RateLimit] = {}
        own = task.spec.rate_limit
        if own is not None and not (own.key and _is_of_member(own.key, task)):
            found[f"rate {own.key or task.spec.agent}"] = own
        if self._of_project is not None and self._of_project.rate_limit is not None:
            found["rate of the project"] = self._of_project.rate_limit
        of_agent = self._of_agents.get(task.spec.agent)
        if of_agent is not None and of_agent.rate_limit is not None:
            found[f"rate of agent {of_agent.rate_limit.key or task.spec.agent}"] = of_agent.rate_limit
        for name, limit in found.items():
            self._numbers.setdefault(name, len(self._rates))
            self._rates.setdefault(name, Rate(name, limit.limit / limit.per, limit.most_at_once))
            yield self._numbers[name]


def _is_of_member(key: str, task: PlannedTask) -> bool:
    """True if the placeholders of a key name variables of the member, so that members have keys of their own."""
    return not own_names(task.spec).isdisjoint(name.partition(".")[0] for name in placeholders(key))
