"""The limits of a task, and the names of their keys for each member. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anabranch.core.expansion.members import expand
from anabranch.core.limit_addresses import ALL_PROJECTS, LimitKind, LimitScope, limit_address, project_address
from anabranch.core.request.configured_limits import AgentLimits, Places, ProjectLimits, RunLimitSet
from anabranch.core.request.limits import Breaker, OnFull, RateLimit
from anabranch.core.request.models import Expansion
from anabranch.core.templates import compile_template, member_scope, placeholders
from anabranch.core.wire.messages import LimitRule
from anabranch_taskgroup.session.arrays import arrays_of, has_large_array
from anabranch_taskgroup.session.conditions import condition_values
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.visible import readable_values

MAX_SHOWN_NAME = 500
"""Characters of the name of a limit that is shown. The whole of it makes the address."""


@dataclass(frozen=True, slots=True)
class LimitUse:
    """A limit that the members of a task need a grant of, in the order in which they need them: rates first, so
    that no member holds a place while it waits for a rate. The order is the same for all tasks, so that no two
    chunks wait for each other."""

    kind: LimitKind
    key: str
    """With its placeholders."""
    limit: int
    per: float = 0.0
    burst: int = 0
    on_full: OnFull = "queue"
    breaker: Breaker | None = None
    scope: LimitScope = "key"

    def rule(self, run: Run, name: str) -> LimitRule:
        """The limit with a rendered name, for its owner."""
        return LimitRule(
            kind=self.kind,
            project=self.project(run),
            name=name[:MAX_SHOWN_NAME],
            limit=self.limit,
            per=self.per,
            burst=self.burst,
            on_full=self.on_full,
            breaker=self.breaker,
            scope=self.scope,
        )

    def address(self, run: Run, name: str) -> str:
        if self.scope == "project":
            return project_address(run.project, self.kind)
        return limit_address(self.project(run), self.kind, name)

    def project(self, run: Run) -> str:
        """The project whose runs share the limit: of an agent all."""
        return ALL_PROJECTS if self.scope == "agent" else run.project


def uses_of(run: Run, task: Task) -> tuple[LimitUse, ...]:
    """The limits of a task: those of its request, and those that are configured. Of the keys, one that is shared
    by more comes later: who waits for it holds only what fewer share."""
    order, found = task.order, []
    of_agent, of_project = _configured(run, task)
    if (rate := order.rate_limit) is not None:
        found.append(_rate(rate, order.agent, "key"))
    if of_project is not None and of_project.rate_limit is not None:
        found.append(_rate(of_project.rate_limit, run.project, "project"))
    if of_agent is not None and of_agent.rate_limit is not None:
        found.append(_rate(of_agent.rate_limit, order.agent, "agent"))
    if (breaker := run.breakers.get(order.agent)) is not None:
        found.append(LimitUse("breaker", order.agent, 1, breaker=breaker, scope="agent"))
    if (places := order.concurrency) is not None:
        found.append(LimitUse("concurrency", places.key, places.limit, on_full=places.on_full))
    if of_project is not None and of_project.concurrency is not None:
        found.append(_places(of_project.concurrency, run.project, "project"))
    if of_agent is not None and of_agent.concurrency is not None:
        found.append(_places(of_agent.concurrency, order.agent, "agent"))
    return tuple(found)


def _configured(run: Run, task: Task) -> tuple[AgentLimits | None, ProjectLimits | None]:
    """The configured limits of the agent and of the project of a task. A step without an agent has none."""
    limits = run.configured_limits
    if limits is None or not task.order.agent:
        return None, None
    return limits.agents.get(task.order.agent), limits.project


def _rate(rate: RateLimit, name: str, scope: LimitScope) -> LimitUse:
    key = name if rate.key is None else rate.key
    return LimitUse("rate", key, rate.limit, rate.per, rate.most_at_once, scope=scope)


def _places(places: Places, name: str, scope: LimitScope) -> LimitUse:
    return LimitUse("concurrency", name if places.key is None else places.key, places.limit, scope=scope)


def configured_breakers(limits: RunLimitSet) -> dict[str, Breaker]:
    """By agent: its configured breaker."""
    return {name: each.breaker for name, each in limits.agents.items() if each.breaker is not None}


def name_of(run: Run, task: Task, use: LimitUse, index: int) -> str:
    """The name of a limit for a member."""
    named = _named(use)
    if not named:
        return use.key
    shown = None if task.order.expansion is None else index
    system = {"index": shown, "run_id": run.run_id, "session_id": run.session_id, "task_name": task.name}
    own = _own_values(run, task, index) if _is_of_member(task, named) else {}
    return str(compile_template(use.key).render(member_scope(own, _values(run, task), system)))


def names_in(run: Run, task: Task, use: LimitUse, start: int, stop: int) -> Iterator[str]:
    """The names of a limit for the members from `start` to `stop`."""
    if not _is_of_member(task, _named(use)):
        name = name_of(run, task, use, start)
        yield from (name for _ in range(start, stop))
        return
    yield from (name_of(run, task, use, index) for index in range(start, stop))


def _named(use: LimitUse) -> frozenset[str]:
    """The placeholders of a key; a configured one, and the name of an agent, have none."""
    return placeholders(use.key) if use.scope == "key" else frozenset()


def _is_of_member(task: Task, named: frozenset[str]) -> bool:
    """True if a key may differ between members: it names more than the dependencies and the context of the
    task."""
    if task.order.expansion is None:
        return False
    shared = {need.key for need in task.order.needs} | set(task.order.context_keys) | set(task.order.loop_names)
    shared |= {"run_id", "session_id", "task_name"}
    own = _names_of(task.order.expansion)
    return any(_first(name) in own or not _is_under(name, shared) for name in named)


def _names_of(expansion: Expansion) -> set[str]:
    included = {name for entry in expansion.include for name in entry}
    return {*expansion.array_mapping, *expansion.identifiers, *included}


def _first(name: str) -> str:
    return name.partition(".")[0]


def _is_under(name: str, keys: set[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def _own_values(run: Run, task: Task, index: int) -> Mapping[str, Any]:
    """The variables of a member of an expansion whose arrays are in the owner's state."""
    expansion = task.order.expansion
    if expansion is None or has_large_array(run, task):
        return {}
    data = {key: value.data for key, value in readable_values(run, task).items()}
    expanded = expand(expansion, arrays_of(task, data), limit=run.member_limit)
    member = next(iter(expanded.members(index, index + 1)), None)
    return {} if member is None else member.scope


def _values(run: Run, task: Task) -> dict[str, Any]:
    """The values that a key may name. Those that only the store has are left out."""
    found = {key: run.context[key] for key in task.order.context_keys if key in run.context}
    found |= {key: value.data for key, value in condition_values(run, task).items() if not value.is_reference}
    return found


def key_problem(run: Run, task: Task) -> str | None:
    """Why the keys of a task's limits cannot be made; None if they can."""
    for use in uses_of(run, task):
        if _is_of_member(task, _named(use)) and has_large_array(run, task):
            return (
                f"the key {use.key!r} of a limit names variables of members, whose array is too large to be in "
                "the records of the run: write a key that is the same for all members, or a smaller array"
            )
    return None
