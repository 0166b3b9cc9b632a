"""Which agents can take executions, and which of them does. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from anabranch.core.tasks.decisions import AGENT, CAPABILITY
from anabranch.core.tasks.models import AgentRecord

PROGRAM = "program/"
"""What an execution wants that runs a program of its own."""
PROGRAM_KINDS = ("kubernetes", "container", "process")
"""The built-in agents that run programs of requests, the preferred one first."""


@dataclass(frozen=True, slots=True)
class Availability:
    """The agents that can take executions.

    Attributes:
        served_by: agent -> the name under which workers run it.
        by_want: `agent/NAME` and `capability/NAME` -> the agents that fit.
        has_offers: True if a live worker announces resources.
    """

    served_by: Mapping[str, str]
    by_want: Mapping[str, Sequence[str]]
    has_offers: bool = False

    @property
    def wants(self) -> frozenset[str]:
        """What executions may want to be started. Some want nothing in particular."""
        return frozenset((*self.by_want, ""))

    def choose(self, wants: str, running: Mapping[str, int]) -> str | None:
        """The fitting agent with the fewest running executions, then the first by name; None if there is none."""
        fitting = self.by_want.get(wants, ())
        return min(fitting, key=lambda name: (running.get(name, 0), name), default=None)


def availability(
    live: Mapping[str, Iterable[str]], registered: Iterable[AgentRecord] = (), *, has_offers: bool = False
) -> Availability:
    """The agents that can take executions.

    Args:
        live: the agents of live workers, with their capabilities.
        registered: agents that were registered by name. One that is not live itself is served by the live agent
            that its type names, and by nobody if there is none.
    """
    served_by = {name: name for name in live}
    capabilities = {name: set(found) for name, found in live.items()}
    for each in registered:
        target = each.id if each.id in live else each.agent_type
        if target in live:
            served_by[each.id] = target
            capabilities[each.id] = {*capabilities.get(each.id, ()), *each.capabilities}
    by_want: dict[str, list[str]] = {AGENT + name: [name] for name in served_by}
    for name, found in capabilities.items():
        for capability in found:
            by_want.setdefault(CAPABILITY + capability, []).append(name)
    if programs := [kind for kind in PROGRAM_KINDS if kind in served_by]:
        by_want[PROGRAM] = programs
    return Availability(served_by, by_want, has_offers)


def why_not_available(wants: str) -> str:
    """Why executions that want this do not start."""
    if wants.startswith(AGENT):
        return f"waits for the agent {wants.removeprefix(AGENT)!r}: no live worker has it"
    if wants == PROGRAM:
        return "waits for a worker that runs programs: none lists kubernetes, container or process as executor"
    return f"waits for an agent with the capability {wants.removeprefix(CAPABILITY)!r}: no live agent has it"
