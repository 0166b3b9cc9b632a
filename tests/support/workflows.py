"""Eight scientific workflows as they were really executed, converted to requests.

From wfcommons/WfInstances, reduced to ids, edges and run times (see ``data/workflows``). Each task becomes a
``sleep`` that returns its own id, so that a result shows its producer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parents[1] / "data" / "workflows"
WORKFLOWS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
Grouping = Literal["one", "task", "program"]

_NUMBER = re.compile(r"_(?:ID)?\d+$")


def workflow_tasks(name: str) -> list[dict[str, Any]]:
    """The recorded tasks: ``id``, ``name``, ``parents``, ``children``, ``runtimeInSeconds``."""
    tasks: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["tasks"]
    return tasks


def workflow_request(name: str, grouping: Grouping = "one", scale: float = 0.001) -> dict[str, Any]:
    """A request for that workflow: all tasks in one group, a group for each task, or one for each program."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for task in workflow_tasks(name):
        groups.setdefault(_group_of(task, grouping), []).append(_task(task, scale))
    return {
        "name": name,
        "task_groups": [{"name": group, "tasks": tasks} for group, tasks in groups.items()],
    }


def _group_of(task: dict[str, Any], grouping: Grouping) -> str:
    if grouping == "one":
        return "workflow"
    return str(task["id"]) if grouping == "task" else program_of(task["name"])


def program_of(name: str) -> str:
    """The program of a task: its name without number, and without repetition."""
    program = _NUMBER.sub("", name)
    first, *others = program.split("_")
    return first if others[:1] == [first] else program


def _task(task: dict[str, Any], scale: float) -> dict[str, Any]:
    return {
        "name": task["id"],
        "agent": "sleep",
        "inputs": {"seconds": round(task["runtimeInSeconds"] * scale, 6), "value": task["id"]},
        "dependencies": task["parents"],
        "result_keys": [task["id"]],
    }
