"""Adds agents that spend, budgets and a cache to random requests; `spending_checks` checks the sums.

For seeds from `SPENDING_FROM` on. The budgets are so tight that members wait for what others give back, and so
wide that all of them run in the end: what is not given back leaves its run open, or fails it. In odd seeds, many
budgets are used up: the run fails, and no further member starts. Few values are
cached for all runs, so a member with the key of another one has a wrong value.
"""

from __future__ import annotations

from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

SPENDING_FROM, SPENDING_UNTIL = 9_600_000, 9_700_000
GROUP = "spending"
PRICE = 0.01
ESTIMATE = 1.0
USED_UP_SHARE = 0.7


def has_spending(seed: str) -> bool:
    """True if agents of a seed spend."""
    return seed.isdigit() and SPENDING_FROM <= int(seed) < SPENDING_UNTIL


def add_spending(seed: str, number: int, expected: Expected) -> None:
    """Add a group of tasks that spend, with a budget and perhaps a cache."""
    random = Random(f"spending {seed} {number}")
    request = expected.request
    tasks = []
    for index in range(random.randint(1, 4)):
        items = [random.randrange(4) for _ in range(random.choice((1, 3, 12, 40)))]
        task: dict[str, Any] = {
            "name": f"s{index}",
            "agent": "work",
            "result_keys": [f"spent{index}"],
            "dependencies": [],
            "optional_dependencies": [],
            "inputs": {"deps": [], "usd": PRICE, "item": "{each}", "gives": "{each}"},
            "expansion_config": {"type": "array", "array_mapping": {"each": items}, "output_format": "index"},
            "estimate": {"usd": ESTIMATE},
        }
        if random.random() < 0.5:
            task["inputs"]["seconds"] = random.choice((0.01, 0.2))
        if random.random() < 0.3:
            task["max_concurrency"] = random.randint(1, 5)
        if random.random() < 0.6:
            task["cache"] = {
                "ttl": random.choice((5, 3_600)),
                "scope": random.choice(("project", "session", "run")),
            }
        tasks.append(task)
    # Between two and ten members at a time, and enough for each attempt of all of them.
    budget = {"usd": round(ESTIMATE * random.uniform(3, 9) + 5, 3)}
    group: dict[str, Any] = {"name": GROUP, "tasks": tasks}
    if random.random() < 0.5:
        group["budget"] = budget
    else:
        request["budget"] = budget
        for task in [task for each in request["task_groups"] for task in each["tasks"] if "agent" in task]:
            task.setdefault("estimate", {"usd": 0.001})
    request["task_groups"].append(group)
    if int(seed) % 2:
        _use_up(seed, number, expected, group)


def _use_up(seed: str, number: int, expected: Expected, group: dict[str, Any]) -> None:
    """Let the members of most requests spend more than the budget, which lets some of them not start."""
    random = Random(f"used up {seed} {number}")
    if random.random() > USED_UP_SHARE:
        return
    total = 0
    for task in group["tasks"]:
        total += len(task["expansion_config"]["array_mapping"]["each"])
        task["inputs"]["usd"] = ESTIMATE
        task.pop("cache", None)
        if random.random() < 0.3:
            # Then the first ten members start before it is known what one costs.
            del task["estimate"]
    whose = group if "budget" in group else expected.request
    whose["budget"] = {"usd": round(ESTIMATE * total * random.uniform(0.1, 0.95), 3)}
    expected.uses_up, expected.is_exact = expected.is_exact, False
