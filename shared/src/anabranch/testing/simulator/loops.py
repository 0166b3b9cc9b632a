"""Adds loops to random requests, and computes their outcome naively: one iteration after the other.

For seeds from `LOOPS_FROM` on. The values of a body differ by iteration: their `salt` is rendered from the names
of the loop, so a value of another iteration is not the expected one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.core.templates import render

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

LOOPS_FROM, LOOPS_UNTIL = 7_400_000, 7_500_000
LOOP_SHARE, NESTED_SHARE, USE_SHARE = 0.8, 0.3, 0.5

Answer = Callable[[str, int | None, Mapping[str, Any], Mapping[str, Any]], Any]
Json = Any


def has_loops(seed: str) -> bool:
    """True if requests of a seed have loops."""
    return seed.isdigit() and LOOPS_FROM <= int(seed) < LOOPS_UNTIL


# --- requests --------------------------------------------------------------------------------------


def add_loops(random: Random, request: dict[str, Any]) -> None:
    """Add a loop to a request, with a body of two tasks, and in some requests one within it."""
    if random.random() >= LOOP_SHARE:
        return
    group = random.choice(request["task_groups"])
    count = random.choice((0, 1, 2, 3, 5))
    states = random.random() < 0.4
    salt: dict[str, Any] = {"i": "{iteration}", "last": "{last.kzb.salt.i}", "of": "{item}"}
    if states:
        salt["state"] = "{state.kzb.salt.i}"
    tasks = [
        _task("za", "kza", (), "L", {"i": "{iteration}"}),
        _task("zb", "kzb", ("kza",), "L", salt),
    ]
    loop = _loop(random, count)
    keys = ["kza", "kzb", "z.loop"]
    if states:
        loop["state"] = {"kzb": {"salt": {"i": "first"}}}
    if random.random() < NESTED_SHARE:
        inner = {"each": ["x", "y"][: random.randint(0, 2)], "collect": random.choice(("last", "append"))}
        tasks.append({"name": "zi", "loop": inner, "result_keys": ["kzc"], "in_loop": "L"})
        tasks.append(_task("zc", "kzc", ("kza",), "zi", {"i": "{iteration}", "of": "{item}"}))
        keys.append("kzc")
    if count and random.random() < 0.35:
        tasks[0]["inputs"]["fails_in"] = sorted({random.randrange(count) for _ in range(random.randint(1, 2))})
        loop["on_failure"] = random.choice(("fail", "continue"))
    for task in tasks:
        if random.random() < 0.3 and "inputs" in task:
            task["inputs"]["seconds"] = random.choice((0.05, 0.5, 2.0))
        if random.random() < 0.15 and "inputs" in task:
            task["inputs"]["bytes"] = random.choice((50, 600, 6_000))
    group["tasks"] += [{"name": "L", "loop": loop, "result_keys": keys}, *tasks]
    if random.random() < USE_SHARE:
        use = _task("zz", "kzz", ("kzb",), None, "after")
        random.choice(request["task_groups"])["tasks"].append(use)


def _loop(random: Random, count: int) -> dict[str, Any]:
    loop: dict[str, Any] = {"collect": random.choice(("last", "append"))}
    kind = random.choice(("each", "while", "until"))
    if kind == "each":
        loop["each"] = [f"item {number}" for number in range(count)]
    elif kind == "while":
        loop["while"] = {"field": "iteration", "operator": "less_than", "value": count}
    else:
        loop["until"] = {"field": "iteration", "operator": "greater_or_equal", "value": count - 1}
    if random.random() < 0.3:
        loop["delay"] = random.choice((0.3, 2.0, 6.0))
    if random.random() < 0.2:
        loop["max_iterations"] = random.randint(1, 3)
        loop["on_limit"] = random.choice(("fail", "complete"))
    return loop


def _task(name: str, key: str, needs: Sequence[str], loop: str | None, salt: Json) -> dict[str, Any]:
    task = {
        "name": name,
        "agent": "work",
        "result_keys": [key],
        "dependencies": list(needs),
        "optional_dependencies": [],
        "max_deliveries": 100,
        "inputs": {"deps": list(needs), "salt": salt},
    }
    return task if loop is None else task | {"in_loop": loop}


# --- expected outcomes -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Scope:
    """What the tasks of one iteration see."""

    names: Mapping[str, Any]
    values: dict[str, Any]
    iteration: tuple[int, ...]


@dataclass(slots=True)
class _Outcome:
    """How a loop ended. `values` are those of its result keys."""

    is_broken: bool = False
    values: dict[str, Any] = field(default_factory=dict)


class LoopEvaluation:
    """Computes the outcomes of the loops of one request."""

    def __init__(self, expected: Expected, answer: Answer) -> None:
        self._expected = expected
        self._answer = answer
        self._failures = 0

    def evaluate(self, found: dict[str, Any]) -> None:
        """Add the results of the request's loop to the expected outcome, and to the values that tasks may see."""
        for group in self._expected.request["task_groups"]:
            for task in group["tasks"]:
                if "loop" in task and "in_loop" not in task:
                    self._evaluate_loop(group, task, found)

    def _evaluate_loop(self, group: Mapping[str, Any], task: Mapping[str, Any], found: dict[str, Any]) -> None:
        expected = self._expected
        self._failures = 0
        outcome = self._loop(group, task, _Scope({}, found, ()))
        expected.in_loops.update(
            key for each in group["tasks"] if "in_loop" in each for key in each["result_keys"]
        )
        if outcome.is_broken:
            expected.failed += max(self._failures, 1)
            expected.broken += 1
            return
        expected.results.update(outcome.values)
        found.update(outcome.values)
        for key in task["result_keys"]:
            expected.producers[key] = f"{group['name']}/{task['name']}"

    def _loop(self, group: Mapping[str, Any], task: Mapping[str, Any], around: _Scope) -> _Outcome:
        spec = task["loop"]
        body = [each for each in group["tasks"] if each.get("in_loop") == task["name"]]
        exported = [key for key in task["result_keys"] if any(key in each["result_keys"] for each in body)]
        state: dict[str, Any] = dict(spec.get("state", {}))
        last: dict[str, Any] = {}
        number = 0
        collected: dict[str, list[Any]] = {key: [] for key in exported}
        ended_by = ""
        while not (ended_by := _ends_before(spec, number)):
            if number >= spec.get("max_iterations", 100):
                ended_by = "limit"
                break
            names = {**around.names, "iteration": number, "state": state, "last": last}
            if "each" in spec:
                names["item"] = spec["each"][number]
            scope = _Scope(names, dict(around.values), (*around.iteration, number))
            values, failures = self._iteration(group, body, scope)
            if failures and spec.get("on_failure", "fail") == "fail":
                self._failures = failures
                return _Outcome(is_broken=True)
            for key in exported:
                collected[key].append(values.get(key))
            state = {name: values.get(name, state[name]) for name in state}
            last, number = values, number + 1
            if not failures and _ends_after(spec, number - 1):
                ended_by = "condition"
                break
        if ended_by == "limit" and spec.get("on_limit", "fail") == "fail":
            self._failures = 0
            return _Outcome(is_broken=True)
        found = collected if spec.get("collect") == "append" else last | state
        values = {key: found[key] for key in exported if key in found}
        summary = {"iterations": number, "ended_by": ended_by}
        return _Outcome(values=values | {key: summary for key in task["result_keys"] if key not in exported})

    def _iteration(
        self, group: Mapping[str, Any], body: Sequence[Mapping[str, Any]], scope: _Scope
    ) -> tuple[dict[str, Any], int]:
        """The values of an iteration, and the number of its tasks that failed."""
        values: dict[str, Any] = {}
        failures = 0
        for task in body:
            if "loop" in task:
                outcome = self._loop(group, task, _Scope(scope.names, scope.values | values, scope.iteration))
                values |= outcome.values
                continue
            if any(need not in values and need not in scope.values for need in task["dependencies"]):
                continue
            [key] = task["result_keys"]
            if scope.iteration[-1] in task["inputs"].get("fails_in", ()):
                failures += 1
                continue
            inputs = render(task["inputs"], scope.names, typed=True)
            values[key] = self._answer(task["name"], None, inputs, scope.values | values)
            self._expected.completed += 1
        return values, failures


def _ends_before(spec: Mapping[str, Any], number: int) -> str:
    """Why there is no iteration of this number; empty if there is one."""
    if "each" in spec:
        return "items" if number >= len(spec["each"]) else ""
    if "while" in spec:
        return "condition" if number >= spec["while"]["value"] else ""
    return ""


def _ends_after(spec: Mapping[str, Any], number: int) -> bool:
    return "until" in spec and number >= spec["until"]["value"]


# --- invariants ------------------------------------------------------------------------------------


class IterationOrder:
    """Checks the events of a run's iterations: each starts once, and only after the one before has ended."""

    def __init__(self) -> None:
        self._cause = -1
        self._open: dict[tuple[str, str, tuple[int, ...]], int] = {}
        self._next: dict[tuple[str, str, tuple[int, ...]], int] = {}

    def read(self, entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """What is wrong with new entries of the session's owner. Entries that are repeated after a crash have
        causes that were seen before."""
        for entry in entries:
            if entry["cause"] <= self._cause:
                continue
            self._cause = entry["cause"]
            kind, _, action = entry["type"].partition(".")
            if kind == "iteration":
                yield from self._check(entry, action)

    def _check(self, entry: Mapping[str, Any], action: str) -> Iterator[str]:
        *outer, number = entry["iteration"]
        loop = (entry["group"], entry["task"], tuple(outer))
        name = f"iteration {number} of {entry['group']}/{entry['task']} within {outer}"
        if action != "started":
            if self._open.pop(loop, None) != number:
                yield f"{name} ended, and had not started"
            return
        if loop in self._open:
            yield f"{name} started before iteration {self._open[loop]} had ended"
        # An admission that is opened again begins again.
        if number not in (0, self._next.get(loop, 0)):
            yield f"{name} started, expected {self._next.get(loop, 0)}"
        elif number == 0 and self._next.get(loop, 0) > 0:
            yield f"{name} started again"
        self._open[loop], self._next[loop] = number, number + 1
