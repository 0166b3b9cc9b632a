"""Adds sub-runs to random requests, and checks that each exists once and ends before its parent.

For seeds from `CHILDREN_FROM` on. Children repeat their outcome by what they get from their member, some fail, and
some have children of their own. A child is known by the records that its owner publishes about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.core.names import child_request_id, run_id_for

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected, Workload

CHILDREN_FROM, CHILDREN_UNTIL = 7_600_000, 7_700_000
CHILD_SHARE, NESTED_SHARE, EXPANDED_SHARE, FAILING_SHARE, ABANDON_SHARE, USE_SHARE = 0.9, 0.3, 0.5, 0.25, 0.15, 0.5
CANCEL_SHARE = 0.2
INNER = "inner"
"""The group of each child."""
ABANDONED = "abandoned"
"""The name of requests of children that go on after their parent's end."""

Answer = Callable[[str, int | None, Mapping[str, Any], Mapping[str, Any]], Any]


def has_children(seed: str) -> bool:
    """True if requests of a seed have sub-runs."""
    return seed.isdigit() and CHILDREN_FROM <= int(seed) < CHILDREN_UNTIL


# --- requests --------------------------------------------------------------------------------------


def add_children(random: Random, expected: Expected, workload: Workload) -> None:
    """Add one or two tasks with sub-runs to a request, and in some requests a task that needs their results. Some
    runs are cancelled about when their children are admitted."""
    if random.random() >= CHILD_SHARE:
        return
    request = expected.request
    if random.random() < CANCEL_SHARE:
        at = min(at for at, record in workload.sent if record.get("request_id") == request["request_id"])
        record = {"type": "cancel", "request_id": request["request_id"]}
        workload.sent.append((at + random.random() * random.choice((0.1, 0.5, 3.0)), record))
        expected.is_exact = False
    for number in range(random.choice((1, 1, 2))):
        task = _run_task(random, f"u{number}", depth=0)
        random.choice(request["task_groups"])["tasks"].append(task)
        if random.random() < USE_SHARE:
            use = _work(random, f"v{number}", task["result_keys"], salt="after")
            random.choice(request["task_groups"])["tasks"].append(use)


def _run_task(random: Random, name: str, depth: int) -> dict[str, Any]:
    first = _work(random, "a", (), salt="{item}")
    tasks = [first, _work(random, "b", ("ka",), salt="b")]
    if random.random() < FAILING_SHARE:
        tasks[-1]["inputs"]["fails"] = [0]
    if depth == 0 and random.random() < NESTED_SHARE:
        tasks.append(_run_task(random, "c", depth + 1))
    run: dict[str, Any] = {
        "request": {"task_groups": [{"name": INNER, "tasks": tasks}]},
        "context": {"item": "plain"},
    }
    if random.random() < ABANDON_SHARE:
        run["on_parent_end"] = "abandon"
        run["request"]["name"] = ABANDONED
    task: dict[str, Any] = {"name": name, "run": run, "result_keys": [f"k{name}"], **_NO_NEEDS}
    if random.random() < EXPANDED_SHARE:
        items = [f"{name}-{index}" for index in range(random.choice((0, 1, 2, 5)))]
        task["expansion_config"] = {"type": "array", "array_mapping": {"each": items}, "output_format": "index"}
        run["context"] = {"item": "{each}"}
        if random.random() < 0.3:
            task["max_concurrency"] = 1
    if random.random() < 0.3:
        task["retry"] = {"strategy": "fixed", "max_attempts": 2, "delay": random.choice((0.2, 2.0))}
    return task


_NO_NEEDS: Mapping[str, Any] = {"dependencies": [], "optional_dependencies": []}


def _work(random: Random, name: str, needs: Sequence[str], salt: str) -> dict[str, Any]:
    inputs: dict[str, Any] = {"deps": list(needs), "salt": salt}
    if random.random() < 0.4:
        inputs["seconds"] = random.choice((0.05, 0.5, 3.0))
    if random.random() < 0.15:
        inputs["bytes"] = random.choice((50, 600, 6_000))
    return {
        "name": name,
        "agent": "work",
        "result_keys": [f"k{name}"],
        "dependencies": list(needs),
        "optional_dependencies": [],
        "max_deliveries": 100,
        "inputs": inputs,
    }


# --- expected outcomes -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Child:
    """The outcome of one child: its results, None if it fails."""

    results: dict[str, Any] | None


def children_outcome(expected: Expected, place: str, task: Mapping[str, Any], key: str, answer: Answer) -> Any:
    """The value of a task with sub-runs; `...` if one of them fails."""
    group, _, name = place.partition("/")
    run_id = run_id_for(expected.request_id)
    children = list(_members(run_id, group, name, task, answer, expected.children))
    failed = sum(child.results is None for child in children)
    expected.failed += failed
    expected.completed += len(children) - failed
    found = [child.results for child in children]
    value = found if "expansion_config" in task else found[0]
    if failed:
        expected.broken += 1
        if "expansion_config" in task and failed < len(children):
            expected.results[key] = value
        return ...
    expected.results[key] = value
    return value


def _members(
    run_id: str, group: str, name: str, task: Mapping[str, Any], answer: Answer, ids: set[str]
) -> Iterator[_Child]:
    """Outcomes by member. Adds the run ids of all children and of their children to `ids`."""
    items = task["expansion_config"]["array_mapping"]["each"] if "expansion_config" in task else ["plain"]
    attempts = task.get("retry", {}).get("max_attempts", 1)
    for index, item in enumerate(items):
        results: dict[str, Any] | None = None
        for attempt in range(1, attempts + 1):
            child_id = run_id_for(child_request_id(run_id, group, name, index, (), attempt))
            ids.add(child_id)
            results = _results_of(child_id, task, item, answer, ids)
            if results is not None:
                break
        yield _Child(results)


def _results_of(
    run_id: str, task: Mapping[str, Any], item: str, answer: Answer, ids: set[str]
) -> dict[str, Any] | None:
    results: dict[str, Any] = {}
    is_broken = False
    [group] = task["run"]["request"]["task_groups"]
    for each in group["tasks"]:
        [key] = each["result_keys"]
        if "run" in each:
            children = list(_members(run_id, INNER, each["name"], each, answer, ids))
            found = [child.results for child in children]
            is_broken = is_broken or None in found
            results[key] = found if "expansion_config" in each else found[0]
        elif "fails" in each["inputs"]:
            is_broken = True
        else:
            inputs = {**each["inputs"], "salt": each["inputs"]["salt"].replace("{item}", item)}
            results[key] = answer(each["name"], None, inputs, results)
    return None if is_broken else results


# --- invariants ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Known:
    """What is known of a child from its records."""

    member: tuple[Any, ...]
    is_abandoned: bool = False
    status: str | None = None


@dataclass(slots=True)
class ChildOrder:
    """Checks the records about children on the topic of results, in their order."""

    children: dict[str, _Known] = field(default_factory=dict)
    """By run id: each child that was admitted."""
    ended: set[str] = field(default_factory=set)
    """All runs with a final record."""

    def read(self, kind: str, body: Mapping[str, Any]) -> Iterator[str]:
        """Take a record; yields what is wrong with it."""
        if kind == "run.accepted":
            yield from self._accepted(body)
        elif kind not in ("run.rejected", "result.published"):
            yield from self._final(body)

    def _accepted(self, body: Mapping[str, Any]) -> Iterator[str]:
        link = body.get("parent")
        if link is None or body["run_id"] in self.children:
            return
        member = (link["run_id"], link["group"], link["task"], link["index"])
        others = [run_id for run_id, known in self.children.items() if known.member == member]
        if any(self.children[each].status is None for each in others):
            yield f"a second child {body['run_id']} of {member} exists beside {others}"
        is_abandoned = body["name"] == ABANDONED
        if link["run_id"] in self.ended and not is_abandoned:
            yield f"the child {body['run_id']} was admitted after its parent {link['run_id']} had ended"
        self.children[body["run_id"]] = _Known(member, is_abandoned)

    def _final(self, body: Mapping[str, Any]) -> Iterator[str]:
        run_id = body["run_id"]
        if (child := self.children.get(run_id)) is not None:
            child.status = body["status"]
        if run_id in self.ended:
            return
        self.ended.add(run_id)
        for child_id, known in self.children.items():
            if known.member[0] == run_id and known.status is None and not known.is_abandoned:
                yield f"{run_id} ended {body['status']} before its child {child_id} of {known.member[1:]}"

    def left(self) -> Iterator[str]:
        """What is wrong when all is over."""
        for run_id, known in self.children.items():
            if known.status is None:
                yield f"the child {run_id} of {known.member} is still open"

    def differences(self, run_id: str, wanted: set[str]) -> Iterator[str]:
        """What is wrong with the children of a run that was not cut short."""
        found, level = set(), {run_id}
        while level:
            level = {child for child, known in self.children.items() if known.member[0] in level}
            found |= level
        if found != wanted:
            yield f"it had the children {sorted(found)}, expected {sorted(wanted)}"
