"""Adds conditions, switches, handled failures and races to random requests, and computes their outcome naively.

For seeds from `BRANCHES_FROM` on. The tasks are named so that they sort in the order of their dependencies. Values
that conditions compare are in the store in part of the seeds, so that the shell evaluates them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected

BRANCHES_FROM, BRANCHES_UNTIL = 7_000_000, 7_100_000
SHARE = 0.5
NUMBERS = 4
"""Numbers that conditions compare are below it."""

Answer = Callable[[str, int | None, Mapping[str, Any], Mapping[str, Any]], Any]
Json = Any


def has_branches(seed: str) -> bool:
    """True if requests of a seed have conditions and branches."""
    return seed.isdigit() and BRANCHES_FROM <= int(seed) < BRANCHES_UNTIL


def is_branching(task: Mapping[str, Any]) -> bool:
    """True for a task that `add_branches` has added."""
    return str(task["name"]).startswith("x")


# --- requests --------------------------------------------------------------------------------------


def add_branches(random: Random, expected: Expected) -> None:
    """Add tasks under conditions to a request, in groups of their own and in those that it has."""
    request = expected.request
    # A task whose optional dependency was cut off may take another branch.
    expected.skips_values = expected.skips_values or not expected.is_exact
    source = _task(random, "xa", "kxa", (), salt={"n": random.randrange(NUMBERS)})
    if random.random() < 0.3:
        source["inputs"]["bytes"] = random.choice((600, 6_000))
    if random.random() < 0.15:
        source["inputs"]["fails"] = [0]
    tasks = [source]
    for number in range(random.choice((0, 1, 2, 3))):
        tasks.append(_conditional(random, number))
    if random.random() < SHARE:
        tasks += _switch(random)
    if random.random() < SHARE:
        tasks += _handled(random)
    if random.random() < SHARE:
        tasks += _afterwards(random, [task["name"] for task in tasks if "switch" not in task])
    request["task_groups"].append({"name": "gx", "tasks": tasks})
    if random.random() < SHARE:
        request["task_groups"].append(_race(random, expected))
    if random.random() < 0.2:
        request["task_groups"].append(_brittle(random, expected))


def _task(random: Random, name: str, key: str, needs: Sequence[str], **inputs: Any) -> dict[str, Any]:
    task: dict[str, Any] = {
        "name": name,
        "agent": "work",
        "result_keys": [key],
        "dependencies": list(needs),
        "optional_dependencies": [],
        "max_deliveries": 100,
        "inputs": {"deps": list(needs), **inputs},
    }
    if random.random() < 0.3:
        task["inputs"]["seconds"] = random.choice((0.05, 0.5, 2.0))
    return task


def _condition(random: Random) -> Json:
    """A condition over the number that `xa` gives; in some requests over a path that is not there."""
    drawn = random.random()
    if drawn < 0.1:
        return {"field": "kxa", "operator": random.choice(("exists", "not_exists"))}
    field = "kxa.salt.none" if drawn < 0.2 else "kxa.salt.n"
    operator = random.choice(tuple(_OPERATORS))
    return {"field": field, "operator": operator, "value": random.randrange(NUMBERS)}


def _conditional(random: Random, number: int) -> dict[str, Any]:
    needs = ["kxa"] if random.random() < 0.4 else []
    task = _task(random, f"xb{number}", f"kxb{number}", needs) | {"when": _condition(random)}
    if random.random() < 0.3:
        # A true condition before an array that is not there would fail the task: it is counted after it.
        count = random.choice((0, 1, 3, 8))
        task["expansion_config"] = {
            "type": "array",
            "array_mapping": {"each": [f"i{n}" for n in range(count)]},
            "output_format": "index",
        }
        task["inputs"]["item"] = "{each}"
    return task


def _switch(random: Random) -> list[dict[str, Any]]:
    count = random.randint(1, 3)
    spec: dict[str, Any] = {"cases": [_condition(random) for _ in range(count)]}
    if random.random() < 0.6:
        spec["has_default"] = True
    else:
        spec["on_no_match"] = random.choice(("fail", "skip"))
    tasks: list[dict[str, Any]] = [{"name": "xc", "switch": spec}]
    for case in range(count + ("has_default" in spec)):
        task = _task(random, f"xd{case}", "kxd", ()) | {"branch": {"switch": "xc", "case": case}}
        if random.random() < 0.15:
            task["inputs"]["fails"] = [0]
        tasks.append(task)
    tasks.append(_task(random, "xe", "kxe", ("kxd",)))
    return tasks


def _handled(random: Random) -> list[dict[str, Any]]:
    """A task whose failure another one handles, and one that takes what either of them gives."""
    risky = _task(random, "xf", "kxf", ()) | {"error_key": "kxf_error"}
    if random.random() < 0.6:
        risky["inputs"]["fails"] = [0]
    # The error has times and attempts that differ: the handler does not see it.
    handler = _task(random, "xg", "kxf", ()) | {"dependencies": ["kxf_error"]}
    return [risky, handler, _task(random, "xh", "kxh", ("kxf",))]


def _afterwards(random: Random, names: Sequence[str]) -> list[dict[str, Any]]:
    others = random.sample(list(names), min(len(names), random.randint(1, 2)))
    marked = [name + ("?" if random.random() < 0.5 else "") for name in others]
    return [_task(random, "xi", "kxi", ()) | {"after": marked}]


def _race(random: Random, expected: Expected) -> dict[str, Any]:
    """A group that some of its tasks decide. Which of them is not known, only how many."""
    count = random.randint(2, 4)
    tasks = [_task(random, f"xr{n}", f"kxr{n}", ()) for n in range(count)]
    failing = random.sample(tasks, random.randrange(count))
    for task in failing:
        task["inputs"]["fails"] = [0]
    need = random.randint(1, count - len(failing))
    expected.races.append((tuple(task["result_keys"][0] for task in tasks if task not in failing), need))
    expected.may_fail += len(failing)
    return {"name": "gr", "need": need, "tasks": tasks}


def _brittle(random: Random, expected: Expected) -> dict[str, Any]:
    """A group that its one failing task cancels."""
    tasks = [_task(random, f"xq{n}", f"kxq{n}", ()) for n in range(random.randint(2, 4))]
    tasks[0]["inputs"]["fails"] = [0]
    expected.races.append((tuple(task["result_keys"][0] for task in tasks[1:]), None))
    expected.failed += 1
    expected.broken += 1
    return {"name": "gq", "fail_fast": True, "tasks": tasks}


# --- expected outcomes -----------------------------------------------------------------------------


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "equals": lambda left, right: bool(left == right),
    "not_equals": lambda left, right: bool(left != right),
    "less_than": lambda left, right: bool(left < right),
    "greater_or_equal": lambda left, right: bool(left >= right),
}


class _Unknown(Exception):
    """A condition compares a value that is not there."""


def _holds(condition: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    key, *path = condition["field"].split(".")
    value: Any = found
    for name in (key, *path):
        if not isinstance(value, Mapping) or name not in value:
            if condition["operator"] == "not_exists":
                return True
            if condition["operator"] == "exists":
                return False
            raise _Unknown
        value = value[name]
    if condition["operator"] in ("exists", "not_exists"):
        return bool(condition["operator"] == "exists")
    return _OPERATORS[condition["operator"]](value, condition["value"])


class BranchEvaluation:
    """Computes the outcomes of the tasks that `add_branches` added, one after the other."""

    def __init__(self, expected: Expected, answer: Answer) -> None:
        self._expected = expected
        self._answer = answer
        self._completed: dict[str, int | None] = {}
        """By task that completed: the case that it chose, if it is a switch."""

    def evaluate(self, found: dict[str, Any]) -> None:
        """Add the results to the expected outcome, and to the values that tasks may see."""
        raced = {key for keys, _ in self._expected.races for key in keys}
        for group in self._expected.request["task_groups"]:
            for task in sorted(filter(is_branching, group["tasks"]), key=lambda each: str(each["name"])):
                if group["name"] == "gx":
                    self._evaluate(group["name"], task, found)
                elif task["result_keys"][0] in raced:
                    [key] = task["result_keys"]
                    value = self._answer(task["name"], None, task["inputs"], {})
                    self._expected.loose[key] = found[key] = value

    def _evaluate(self, group: str, task: Mapping[str, Any], found: dict[str, Any]) -> None:
        try:
            if not self._runs(task, found):
                return
            if "switch" in task:
                self._choose(task, found)
                return
        except _Unknown:
            self._fail(task, found)
            return
        if task["inputs"].get("fails"):
            self._fail(task, found)
            return
        self._complete(group, task, found)

    def _runs(self, task: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
        """False if the task is skipped."""
        branch = task.get("branch")
        if branch is not None and self._completed.get(branch["switch"], -1) != branch["case"]:
            return False
        after = [name for name in task.get("after", ()) if not name.endswith("?")]
        needs = task.get("dependencies", ())
        if any(name not in self._completed for name in after) or any(need not in found for need in needs):
            return False
        return "when" not in task or _holds(task["when"], found)

    def _choose(self, task: Mapping[str, Any], found: dict[str, Any]) -> None:
        spec = task["switch"]
        for case, condition in enumerate(spec["cases"]):
            if _holds(condition, found):
                self._completed[task["name"]] = case
                return
        if "has_default" in spec:
            self._completed[task["name"]] = len(spec["cases"])
        elif spec["on_no_match"] == "fail":
            self._fail(task, found)
        else:
            self._completed[task["name"]] = -1

    def _fail(self, task: Mapping[str, Any], found: dict[str, Any]) -> None:
        expected = self._expected
        if "error_key" in task:
            expected.handled += 1
            expected.unchecked.add(task["error_key"])
            expected.results[task["error_key"]] = found[task["error_key"]] = ...
            return
        expected.failed += 1
        expected.broken += 1

    def _complete(self, group: str, task: Mapping[str, Any], found: dict[str, Any]) -> None:
        expected, name = self._expected, str(task["name"])
        [key] = task["result_keys"]
        config = task.get("expansion_config")
        if config is None:
            value = self._answer(name, None, task["inputs"], found)
            count = 1
        else:
            items = config["array_mapping"]["each"]
            value = [
                self._answer(name, index, {**task["inputs"], "item": item}, found)
                for index, item in enumerate(items)
            ]
            count = len(items)
        place = f"{group}/{name}"
        expected.completed += count
        expected.totals[place] = expected.done[place] = count
        expected.producers[key] = place
        expected.results[key] = found[key] = value
        self._completed[name] = None


# --- invariants ------------------------------------------------------------------------------------


def loose_differences(expected: Expected, results: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the results of groups of which not all tasks complete."""
    for keys, need in expected.races:
        given = [key for key in keys if key in results]
        if need is not None and len(given) != need:
            yield f"{given} have won a race of {need}"


class ChoiceOrder:
    """Checks the events of a run: each switch chooses once, and no task both begins and is skipped."""

    def __init__(self) -> None:
        self._cause = -1
        self._begun: dict[tuple[str, str], str] = {}

    def read(self, entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """What is wrong with new entries of the session's owner; those that are repeated were seen before."""
        for entry in entries:
            if entry["cause"] <= self._cause:
                continue
            self._cause = entry["cause"]
            yield from self._check(entry)

    def _check(self, entry: Mapping[str, Any]) -> Iterator[str]:
        group, task = entry.get("group"), entry.get("task")
        if entry["type"] == "group.started":
            # An admission that is opened again begins again.
            self._begun = {place: how for place, how in self._begun.items() if place[0] != group}
        if group is None or task is None or not task.startswith("x"):
            return
        place = (group, task)
        known = self._begun.get(place)
        if entry["type"] == "task.skipped":
            if known is not None:
                yield f"{group}/{task} was skipped, and {known} before"
            self._begun[place] = "skipped"
        elif entry["type"] == "task.completed" and "case" in entry.get("data", {}):
            if known is not None:
                yield f"{group}/{task} chose a case, and {known} before"
            self._begun[place] = "chose"
        elif entry["type"] in ("task.started", "task.expanded"):
            if known == "skipped":
                yield f"{group}/{task} began, and was skipped before"
            self._begun[place] = "began"
