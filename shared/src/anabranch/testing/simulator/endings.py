"""Adds compensations, `finally` and lists of retriers to random requests, and checks the order of a run's end.

For seeds from `ENDINGS_FROM` on. Each compensation gets the index of the member that it undoes from the result of
that member, so one that undoes another member, or one twice, is noticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.testing.simulator.sharing import SHARED

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

ENDINGS_FROM, ENDINGS_UNTIL = 7_800_000, 7_900_000
COMPENSATE, FINALLY = "compensate", "finally"
UNDO_SHARE, FINALLY_SHARE, LIST_SHARE, BROKEN_SHARE = 0.6, 0.7, 0.7, 0.4
_SPECIAL = frozenset({"gives", "poses", "deep", "listed"})
"""Inputs of members whose value does not say which member it is of."""

Answer = Callable[[str, int | None, Mapping[str, Any], Mapping[str, Any]], Any]


def has_endings(seed: str) -> bool:
    """True if requests of a seed have compensations and `finally`."""
    return seed.isdigit() and ENDINGS_FROM <= int(seed) < ENDINGS_UNTIL


# --- requests --------------------------------------------------------------------------------------


def add_endings(random: Random, expected: Expected) -> None:
    """Add compensations, a task in `finally`, and lists of retriers to a request."""
    request = expected.request
    tasks = [task for group in request["task_groups"] for task in group["tasks"]]
    for task in tasks:
        if isinstance(task.get("retry"), dict) and random.random() < LIST_SHARE:
            task["retry"] = [
                {"errors": ["LookupError"], "strategy": "immediate", "max_attempts": 9},
                {**task["retry"], "errors": ["SimulatedFailure"]},
                {"errors": ["*"]},
            ]
        is_plain = not _SPECIAL & task["inputs"].keys() and task["result_keys"] != [SHARED]
        if random.random() < UNDO_SHARE and is_plain:
            task["compensate"] = _compensation(random, task)
    if random.random() < BROKEN_SHARE:
        random.choice(tasks)["inputs"]["fails"] = [0]
    if random.random() < FINALLY_SHARE:
        # A run that is stopped may have any status.
        is_known = expected.is_exact and "timeout" not in request
        last: dict[str, Any] = {"deps": [], "salt": "{run.status}" if is_known else "unknown"}
        if random.random() < 0.3:
            last["seconds"] = random.choice((0.3, 2.0))
        if random.random() < 0.1:
            last["fails"] = [0]
        request[FINALLY] = [
            {"name": "last", "agent": "work", "result_keys": ["klast"], "inputs": last, "max_deliveries": 100}
        ]


def _compensation(random: Random, task: Mapping[str, Any]) -> dict[str, Any]:
    [key] = task["result_keys"]
    inputs: dict[str, Any] = {"deps": [], "undoes": f"{{result.{key}.index}}"}
    if random.random() < 0.5:
        inputs["seconds"] = random.choice((0.05, 0.5, 2.0))
    if random.random() < 0.1:
        inputs["fails"] = [0]
    return {"agent": "work", "inputs": inputs, "retry": {"strategy": "fixed", "delay": 0.5, "max_attempts": 2}}


def attempts_of(task: Mapping[str, Any]) -> int:
    """How many attempts a failing member of a task has."""
    retry = task.get("retry")
    if isinstance(retry, list):
        retry = next(each for each in retry if "SimulatedFailure" in each["errors"])
    return 1 if retry is None else int(retry["max_attempts"])


# --- expected outcomes -----------------------------------------------------------------------------


def evaluate_endings(expected: Expected, answer: Answer) -> None:
    """Compute what `finally` adds to the outcome of a request, and the failures of compensations."""
    if expected.broken:
        for task in _compensated(expected):
            done = expected.done.get(f"{task[0]}/{task[1]['name']}", 0)
            expected.failed += bool(done and "fails" in task[1]["compensate"]["inputs"])
    for task in expected.request.get(FINALLY, ()):
        inputs = dict(task["inputs"])
        inputs["salt"] = inputs["salt"].replace("{run.status}", "failed" if expected.broken else "completed")
        expected.totals[f"{FINALLY}/{task['name']}"] = 1
        if "fails" in inputs:
            expected.failed += 1
            expected.broken += 1
        else:
            expected.completed += 1
            expected.results["klast"] = expected.values["klast"] = answer(task["name"], None, inputs, {})


def _compensated(expected: Expected) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for group in expected.request["task_groups"]:
        for task in group["tasks"]:
            if "compensate" in task:
                yield group["name"], task


# --- the order of events ---------------------------------------------------------------------------


@dataclass(slots=True)
class EndingOrder:
    """Checks the lifecycle events of one run, in the order of its session's owner."""

    cause: int = -1
    completed: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """By (group, task): the members that completed."""
    last: list[tuple[str, str]] = field(default_factory=list)
    """Tasks in the order of the last member that completed or failed."""
    undone: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By (compensating task, its member): how often it completed."""
    undoing: list[str] = field(default_factory=list)
    """Compensating tasks in the order of their begin."""
    ended_groups: set[str] = field(default_factory=set)

    def read(self, entries: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> Iterator[str]:
        """Take new entries; yields what is wrong with them. `groups` are those of the request."""
        for entry in entries:
            if entry["cause"] > self.cause:
                self.cause = entry["cause"]
                yield from self._take(entry, groups)

    def _take(self, entry: Mapping[str, Any], groups: Sequence[str]) -> Iterator[str]:
        kind, group, task = entry["type"], entry.get("group"), entry.get("task")
        if group is None:
            return
        if task is None:
            if kind != "group.started":
                self.ended_groups.add(group)
            return
        if group in (COMPENSATE, FINALLY):
            if kind == "task.started" and not self.ended_groups.issuperset(groups):
                yield f"{group}/{task} started before all groups had ended: {sorted(self.ended_groups)}"
            if (
                group == FINALLY
                and kind == "task.started"
                and self.undoing
                and COMPENSATE not in self.ended_groups
            ):
                yield f"{group}/{task} started before all compensations had ended"
        if group == COMPENSATE:
            yield from self._undo(kind, task, _members(entry))
        elif kind == "task.completed":
            self.completed.setdefault((group, task), set()).update(_members(entry))
        if kind in ("task.completed", "task.failed") and group not in (COMPENSATE, FINALLY):
            self.last = [each for each in self.last if each != (group, task)] + [(group, task)]

    def _undo(self, kind: str, task: str, members: Sequence[int]) -> Iterator[str]:
        if kind == "task.started" and task not in self.undoing:
            self.undoing.append(task)
        if kind != "task.completed":
            return
        for index in members:
            self.undone[task, index] += 1
            if self.undone[task, index] > 1:
                yield f"the compensation {task}/{index} completed {self.undone[task, index]} times"

    def problems(self, expected: Expected, final: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with the compensations of a run that has ended."""
        wanted = {
            task["name"]: len(self.completed.get((group, task["name"]), ()))
            for group, task in _compensated(expected)
        }
        found = Counter(task for task, _ in self.undone.elements())
        outcome = final.get("compensation")
        if final["status"] == "completed" or not any(wanted.values()):
            if found or outcome:
                yield f"it ended {final['status']} and was compensated: {outcome}, {dict(found)}"
            return
        if self.undone and outcome is None:
            yield f"compensations completed, and its final record does not say so: {dict(found)}"
        by_finally = "fails" in str(expected.request.get(FINALLY)) and final["status"] == "failed"
        if outcome == "complete" and found != Counter({name: count for name, count in wanted.items() if count}):
            yield f"{dict(found)} members were compensated, {wanted} completed"
        if outcome is None and expected.is_exact and not by_finally:
            yield f"it ended {final['status']} with {wanted} completed members, and was not compensated"
        order = [name for _, name in self.last if wanted.get(name)]
        begun = [name for name in self.undoing if name in order]
        if expected.is_exact and begun != list(reversed(order))[: len(begun)]:
            yield f"tasks ended in the order {order}, and their compensations began in the order {begun}"


def _members(entry: Mapping[str, Any]) -> Sequence[int]:
    spans = entry.get("spans") or ((0, 1),)
    return [index for start, stop in spans for index in range(start, stop)]
