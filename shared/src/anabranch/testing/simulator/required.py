"""Gives workers different agents and resources, and tasks requirements; checks that no worker runs more than it
offers.

For seeds from `REQUIRED_FROM` on. The outcome of each run is as without requirements: a member that starves, or
resources that are not given back, leave its run open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.core.requirements import parse_offers
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import Registry, agent

if TYPE_CHECKING:
    from anabranch.testing.simulator.processes import Process
    from anabranch.testing.simulator.workload import Expected

REQUIRED_FROM, REQUIRED_UNTIL = 9_800_000, 9_900_000
OFFERS = {
    "taskgroup-0": "cpu=2,labels=a",
    "taskgroup-1": "cpu=1,labels=a,b",
    "taskgroup-2": "cpu=3",
}
"""By process. All tasks fit on the first one, which has all agents: each seed has it."""
RARE = "rare"
"""An agent that only the first worker has."""
SKILLED = "capability/skill"
"""What all workers have under other names."""

SettingsOf = Callable[[str, int], Settings]


def has_requirements(seed: str) -> bool:
    """True if tasks of a seed require resources."""
    return seed.isdigit() and REQUIRED_FROM <= int(seed) < REQUIRED_UNTIL


def add_requirements(seed: str, number: int, expected: Expected) -> None:
    """Give most tasks of a request requirements, and some of them other agents."""
    random = Random(f"required {seed} {number}")
    for group in expected.request["task_groups"]:
        for task in group["tasks"]:
            if random.random() < 0.7:
                labels = random.choice(([], [], ["a"]))
                task["requires"] = {"cpu": random.choice(("500m", 1, 2)), "labels": labels}
                task["inputs"]["requires"] = task["requires"]
            if random.random() < 0.4:
                task["agent"] = random.choice((RARE, {"capability": "skill"}))
            if random.random() < 0.3:
                task["inputs"]["seconds"] = random.choice((0.5, 2.0, 7.0))


def with_partitions(seed: str, settings: Settings) -> Settings:
    """Settings with so many partitions of offers that each worker reads some: where only one worker can run a
    task, that one has to."""
    if not has_requirements(seed):
        return settings
    return replace(settings, partitions={**settings.partitions, "tasks": 6})


def offering(seed: str, settings_of: SettingsOf) -> SettingsOf:
    """The settings of processes, with what their workers offer."""
    if not has_requirements(seed):
        return settings_of
    return lambda process, number: replace(settings_of(process, number), offers=OFFERS.get(process, ""))


def add_agents(seed: str, registry: Registry, process: Process, report: Callable[[str], None]) -> Registry:
    """The registry of a process, with agents that note what runs on its worker and that others lack."""
    work = registry.get("work")
    if not has_requirements(seed) or work is None:
        return registry
    used = Usage(process, report)
    names = {f"skilled-{process.name}": ["skill"]}
    if process.name in ("taskgroup-0",) or process.kind == "agency":
        names[RARE] = []
    found = Registry.builtin().add(agent("work")(used.around(work.handler)))
    for name, capabilities in names.items():
        found.add(agent(name, capabilities=capabilities)(used.around(work.handler)))
    return found


class Usage:
    """What the members that run on one worker require together, in each incarnation of its process."""

    def __init__(self, process: Process, report: Callable[[str], None]) -> None:
        self._process = process
        self._report = report
        self._offered = parse_offers(OFFERS.get(process.name, ""))
        self._cpu = 0

    def around(self, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The agent, which notes what it requires while it runs."""

        async def call(task: Any) -> Any:
            required = (task.inputs or {}).get("requires")
            if required is None:
                return await work(task)
            # A new incarnation of the process has a registry, and with it a count, of its own.
            cpu = parse_offers(f"cpu={required['cpu']}").amount("cpu")
            self._cpu += cpu
            if self._cpu > self._offered.amount("cpu"):
                self._report(f"{self._process.name} runs members for {self._cpu}m cpu, and offers less")
            if not set(required["labels"]) <= set(self._offered.labels):
                self._report(f"{self._process.name} runs a member that requires the labels {required['labels']}")
            try:
                return await work(task)
            finally:
                self._cpu -= cpu

        return call
