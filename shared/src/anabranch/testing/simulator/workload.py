"""Draws random requests, and computes their expected outcome naively, without the product's joins.

The behaviour of an agent is in the `inputs` of its task, so it is the same on every worker. The expected outcome
is computed one task after the other, in the order of dependencies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import Any

from anabranch.testing.simulator.branches import BranchEvaluation, add_branches, has_branches, is_branching
from anabranch.testing.simulator.children import add_children, children_outcome, has_children
from anabranch.testing.simulator.edges import Edges
from anabranch.testing.simulator.endings import add_endings, attempts_of, evaluate_endings, has_endings
from anabranch.testing.simulator.event_waits import add_events, has_events
from anabranch.testing.simulator.extremes import add_extremes, is_refused, resubmission
from anabranch.testing.simulator.limited import add_limits, has_limits
from anabranch.testing.simulator.long_runs import prolong
from anabranch.testing.simulator.lookalikes import add_lookalikes
from anabranch.testing.simulator.loops import LoopEvaluation, add_loops, has_loops
from anabranch.testing.simulator.ordered import add_order, is_ordered
from anabranch.testing.simulator.outside import add_outside, is_outside
from anabranch.testing.simulator.pools import add_pools, has_pools
from anabranch.testing.simulator.required import add_requirements, has_requirements
from anabranch.testing.simulator.scheduled import LogicalFiring, add_schedules, has_schedules
from anabranch.testing.simulator.sharing import CONFLICT, POLICIES, SHARED, add_shared_key, reduced
from anabranch.testing.simulator.spending import add_spending, has_spending
from anabranch.testing.simulator.start_times import add_times
from anabranch.testing.simulator.waiting import add_waits, as_sent, has_waits, wait_outcome
from anabranch.testing.simulator.workload_answers import answer as answer

_BY_RANGE = (
    (has_spending, add_spending),
    (has_limits, add_limits),
    (has_requirements, add_requirements),
    (has_schedules, add_times),
    (has_pools, add_pools),
    (is_outside, add_outside),
)
FORMATS = ("merge", "separate", "single", "index")
ABSENT: Any = object()


@dataclass(slots=True)
class Expected:
    """Expected outcome of a request.

    Attributes:
        values: values that dependents may see, by key.
        broken: number of failed tasks.
        totals: number of members of each task that has some, by `group/task`.
        done: how many of them complete.
        producers: `group/task` that produces a key.
        writers: `group/task` of the tasks that write the shared key.
        in_loops: keys of tasks of loop bodies, which have another value in each iteration.
        loose: values of keys that may be absent, because their tasks may be cancelled.
        races: keys in `loose`, and how many of them have a value; None if any number has.
        may_fail: failures that may be missing, of tasks that may be cancelled before they fail.
        handled: failures that are the value of a key.
        unchecked: keys whose values are not known.
        children: run ids of all sub-runs, and of theirs.
        firing: the firing of a schedule that the run is.
        uses_up: the run fails, because its members spend more than a budget allows.
        is_exact: False if the run may be cut short (a cancel, a timeout, a member that kills its worker); then
            results may be missing, and the status may differ.
        skips_values: True if values and lost members are not known, as with a user's own agents.
    """

    request: dict[str, Any]
    status: str = "completed"
    results: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    failed: int = 0
    completed: int = 0
    broken: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    producers: dict[str, str] = field(default_factory=dict)
    writers: tuple[str, ...] = ()
    in_loops: set[str] = field(default_factory=set)
    loose: dict[str, Any] = field(default_factory=dict)
    races: list[tuple[tuple[str, ...], int | None]] = field(default_factory=list)
    may_fail: int = 0
    handled: int = 0
    unchecked: set[str] = field(default_factory=set)
    children: set[str] = field(default_factory=set)
    firing: LogicalFiring | None = None
    uses_up: bool = False
    is_exact: bool = True
    skips_values: bool = False

    @property
    def request_id(self) -> str:
        return str(self.request["request_id"])


@dataclass(slots=True)
class Workload:
    """Actions of users: requests and control records with their times, and external values."""

    runs: list[Expected] = field(default_factory=list)
    sent: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """(seconds, record for the requests topic)"""
    policy: str | None = None
    """Policy of the key that all runs write."""
    outside: list[tuple[float, str, str, Any]] = field(default_factory=list)
    """(seconds, session, key, value)"""
    cancelled: dict[str, float] = field(default_factory=dict)
    """Times in seconds at which requests are cancelled that must end soon after, by request id."""
    later: list[tuple[float, Expected]] = field(default_factory=list)
    """Requests whose ids come again, with the time of their submission; their records are in `sent`."""


# --- requests --------------------------------------------------------------------------------------


def make_workload(random: Random, runs: int, edges: Edges, *, shares: bool = False) -> Workload:
    """Draw `runs` requests and the other actions of users. With `shares`, all runs write one key."""
    workload = Workload(policy=random.choice(POLICIES) if shares else None)
    for number in range(runs):
        expected = Expected(_request(random, number, workload))
        if workload.policy is not None:
            add_shared_key(random, workload.policy, expected.request)
        _decorate(random, expected, workload)
        add_lookalikes(expected.request, number, workload)
        add_extremes(edges, expected.request, number, workload)
        if "snapshots" in edges:
            prolong(edges.random, expected.request, number, workload)
        if has_endings(edges.seed):
            add_endings(edges.random, expected)
        if has_loops(edges.seed):
            add_loops(edges.random, expected.request)
        adds = add_waits if has_waits(edges.seed) else add_events if has_events(edges.seed) else None
        waits = adds is not None and not edges.may_repeat
        if adds is not None and waits:
            adds(edges.seed, number, expected, workload)
        if has_branches(edges.seed):
            add_branches(edges.random, expected)
        for is_of, add in _BY_RANGE:
            if is_of(edges.seed):
                add(edges.seed, number, expected)
        if has_children(edges.seed):
            add_children(edges.random, expected, workload)
        if is_ordered(edges.seed):
            add_order(edges.random, expected.request)
        evaluate(expected, _outside_of(workload, number))
        workload.runs.append(expected)
        if waits:
            workload.sent = [(at, as_sent(record)) for at, record in workload.sent]
            continue
        _send_again(edges, expected, number, workload)
    if has_schedules(edges.seed) and not edges.may_repeat:
        add_schedules(edges.seed, workload, _request, _evaluated)
    workload.sent.sort(key=lambda each: each[0])
    return workload


def _evaluated(request: dict[str, Any]) -> Expected:
    """The expected outcome of a request that nothing from outside concerns."""
    expected = Expected(request)
    evaluate(expected, {})
    return expected


def _outside_of(workload: Workload, number: int) -> dict[str, Any]:
    return {key: value for _, session, key, value in workload.outside if session == f"s{number}"}


def _send_again(edges: Edges, expected: Expected, number: int, workload: Workload) -> None:
    sent = max(at for at, record in workload.sent if record.get("request_id") == expected.request_id)
    found = resubmission(edges, expected.request, sent)
    if found is None:
        return
    at, body = found
    later = Expected(body, is_exact=expected.is_exact, skips_values=expected.skips_values)
    evaluate(later, _outside_of(workload, number))
    workload.later.append((at, later))
    workload.sent.append((at, body))


def _request(random: Random, number: int, workload: Workload) -> dict[str, Any]:
    groups: list[dict[str, Any]] = [{"name": f"g{i}", "tasks": []} for i in range(random.randint(1, 3))]
    keys: list[str] = []
    for i in range(random.choice((1, 2, 3, 4, 5, 6))):
        task = _task(random, i, keys)
        if random.random() < 0.06 and workload.policy is None:
            _wait_for_outside(random, task, number, workload)
        random.choice(groups)["tasks"].append(task)
        keys.append(f"k{i}")
    filled = [group for group in groups if group["tasks"]]
    random.shuffle(filled)
    for group in filled:
        if random.random() < 0.1:
            group["max_concurrency"] = random.randint(1, 3)
    return {"request_id": f"r{number}", "session_id": f"s{number}", "task_groups": filled}


def _task(random: Random, number: int, keys: Sequence[str]) -> dict[str, Any]:
    needs = random.sample(keys, min(len(keys), random.choice((0, 1, 1, 2))))
    optional = [key for key in needs if random.random() < 0.15]
    task: dict[str, Any] = {
        "name": f"t{number}",
        "agent": "work",
        "result_keys": [f"k{number}"],
        "dependencies": needs,
        "optional_dependencies": optional,
        "max_deliveries": 100,
    }
    inputs: dict[str, Any] = {"deps": list(needs)}
    members = 1
    if random.random() < 0.6:
        members = _expand(random, task, inputs, keys)
    _behave(random, task, inputs, max(members, 1))
    task["inputs"] = inputs
    return task


def _expand(random: Random, task: dict[str, Any], inputs: dict[str, Any], keys: Sequence[str]) -> int:
    inputs["item"] = "{each}"
    wanted = [key for key in task["dependencies"] if key not in task["optional_dependencies"]]
    count = random.choice((0, 1, 2, 3, 5, 8, 13, 30))
    source: Any = [f"i{n}" for n in range(count)]
    if wanted and random.random() < 0.3:
        source = wanted[0]
    task["expansion_config"] = {
        "type": "array",
        "array_mapping": {"each": source},
        "output_format": random.choice(FORMATS),
        "on_empty": random.choice(("complete", "complete", "fail", "skip")),
    }
    if random.random() < 0.3:
        task["tolerated_failures"] = random.choice((1, 2, "20%", "100%"))
    if random.random() < 0.2:
        task["max_concurrency"] = random.randint(1, 4)
    return count


def _behave(random: Random, task: dict[str, Any], inputs: dict[str, Any], members: int) -> None:
    if random.random() < 0.3:
        inputs["seconds"] = random.choice((0.05, 0.3, 1.0, 4.0))
    if random.random() < 0.15:
        inputs["fails"] = sorted({random.randrange(members) for _ in range(random.randint(1, 2))})
    if random.random() < 0.2:
        inputs["flaky"] = {str(random.randrange(members)): random.randint(1, 3) for _ in range(2)}
        task["retry"] = {
            "strategy": random.choice(("immediate", "fixed", "exponential")),
            "max_attempts": random.randint(2, 4),
            "delay": random.choice((0.1, 0.5, 2.0)),
        }
    if random.random() < 0.15:
        inputs["bytes"] = random.choice((50, 300, 1500))
    if random.random() < 0.2:
        inputs["listed"] = True


def _wait_for_outside(random: Random, task: dict[str, Any], number: int, workload: Workload) -> None:
    key = f"outside-{task['name']}"
    task["external_dependencies"] = [key]
    task["inputs"]["deps"] = [*task["inputs"]["deps"], key]
    workload.outside.append((random.random() * 12, f"s{number}", key, {"from": "outside", "n": number}))


def _decorate(random: Random, expected: Expected, workload: Workload) -> None:
    """Draw when a request is submitted, and whether it is repeated, cancelled, paused, timed out or kills
    workers."""
    at = random.random() * 4
    request = expected.request
    workload.sent.append((at, request))
    while random.random() < 0.25:
        workload.sent.append((at + random.random() * 15, request))
    drawn = random.random()
    if drawn < 0.06:
        workload.sent.append((max(0.0, at - 1 + random.random() * 6), _control("cancel", request)))
        expected.is_exact = False
    elif drawn < 0.12:
        paused = at + random.random() * 3
        workload.sent.append((paused, _control("pause", request)))
        workload.sent.append((paused + 0.5 + random.random() * 10, _control("resume", request)))
    elif drawn < 0.16:
        request["task_groups"][0]["timeout"] = random.choice((0.5, 3.0))
        expected.is_exact = False
        # A task with an optional dependency may start without it after the timeout of the producer's group.
        expected.skips_values = SHARED in str(request) or _has_optional(request)
    elif drawn < 0.19:
        request["timeout"] = random.choice((1.0, 6.0))
        expected.is_exact = False
    elif drawn < 0.22:
        task = request["task_groups"][0]["tasks"][0]
        task["inputs"]["kills"] = [0]
        task["max_deliveries"] = random.randint(1, 3)
        expected.is_exact = False
        expected.skips_values = True


def _has_optional(request: Mapping[str, Any]) -> bool:
    return any(task["optional_dependencies"] for group in request["task_groups"] for task in group["tasks"])


def _control(action: str, request: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": action, "request_id": request["request_id"]}


# --- expected outcomes -----------------------------------------------------------------------------


def evaluate(expected: Expected, outside: Mapping[str, Any]) -> None:
    """Compute the outcome of a request task by task. The names of tasks sort in the order of dependencies."""
    found: dict[str, Any] = dict(outside)
    tasks = [
        (group["name"], task)
        for group in expected.request["task_groups"]
        for task in group["tasks"]
        if not is_branching(task)
    ]
    if policies := expected.request.get("context_policies"):
        _evaluate_shared(expected, policies[SHARED], tasks, found)
    LoopEvaluation(expected, answer).evaluate(found)
    BranchEvaluation(expected, answer).evaluate(found)
    for group, task in sorted(tasks, key=lambda each: str(each[1]["name"])):
        # Tasks that write the shared key were evaluated above, because all others may depend on it.
        if task["result_keys"] == [SHARED] or "loop" in task or "in_loop" in task:
            continue
        [key] = task["result_keys"]
        place = f"{group}/{task['name']}"
        expected.producers[key] = place
        found[key] = _outcome(expected, place, task, key, found)
    expected.values = {key: value for key, value in found.items() if value is not ABSENT and key not in outside}
    evaluate_endings(expected, answer)
    if expected.broken:
        expected.status = "failed"


def _evaluate_shared(
    expected: Expected, policy: str, tasks: Sequence[tuple[str, Mapping[str, Any]]], found: dict[str, Any]
) -> None:
    """Compute the value of the shared key, from its writers in the order of the request."""
    values = []
    for group, task in tasks:
        if task["result_keys"] == [SHARED]:
            place = f"{group}/{task['name']}"
            expected.writers += (place,)
            value = _outcome(expected, place, task, SHARED, {})
            # The contribution of one writer is no result: the value that all of them give is set below.
            expected.results.pop(SHARED, None)
            values += [] if value is ABSENT else [value]
    value = reduced(policy, values) if values else ABSENT
    if value is CONFLICT:
        expected.failed += 1
        expected.broken += 1
        value = ABSENT
    found[SHARED] = value
    if value is not ABSENT:
        expected.results[SHARED] = value


def _outcome(expected: Expected, place: str, task: Mapping[str, Any], key: str, found: Mapping[str, Any]) -> Any:
    if "wait" in task:
        return wait_outcome(expected, place, task, key)
    if "run" in task:
        value = children_outcome(expected, place, task, key, answer)
        return ABSENT if value is ... else value
    required = set(task["dependencies"]) - set(task["optional_dependencies"])
    refused = [need for need in task.get("external_dependencies", ()) if is_refused(found[need])]
    if refused:
        expected.failed += 1
        expected.broken += 1
        return ABSENT
    if any(found.get(need, ABSENT) is ABSENT for need in required):
        return ABSENT
    seen = {need: value for need, value in found.items() if value is not ABSENT}
    config = task.get("expansion_config")
    if config is None:
        return _single(expected, place, task, key, seen)
    source = config["array_mapping"]["each"]
    items = seen[source] if isinstance(source, str) else source
    if not isinstance(items, list):
        expected.failed += 1
        expected.broken += 1
        return ABSENT
    return _joined(expected, place, task, key, items, seen)


def _single(expected: Expected, place: str, task: Mapping[str, Any], key: str, seen: Mapping[str, Any]) -> Any:
    expected.totals[place] = 1
    value = answer(task["name"], None, task["inputs"], seen)
    if is_refused(value) or not _succeeds(task, 0):
        expected.failed += 1
        expected.broken += 1
        return ABSENT
    expected.completed += 1
    expected.done[place] = 1
    expected.results[key] = value
    return value


def _joined(
    expected: Expected,
    place: str,
    task: Mapping[str, Any],
    key: str,
    items: Sequence[Any],
    seen: Mapping[str, Any],
) -> Any:
    config = task["expansion_config"]
    if not items and config["on_empty"] != "complete":
        expected.failed += config["on_empty"] == "fail"
        expected.broken += config["on_empty"] == "fail"
        return ABSENT
    expected.totals[place] = len(items)
    given = {
        index: answer(task["name"], index, {**task["inputs"], "item": item}, seen)
        for index, item in enumerate(items)
        if _succeeds(task, index)
    }
    results = {index: value for index, value in given.items() if not is_refused(value)}
    failed = len(items) - len(results)
    expected.failed += failed
    expected.completed += len(results)
    expected.done[place] = len(results)
    value = _formatted(config["output_format"], results, len(items))
    if failed <= _tolerated(task, len(items)):
        if config["output_format"] == "separate":
            expected.results.update({f"{index}_{key}": each for index, each in results.items()})
        expected.results[key] = value
        return value
    expected.broken += 1
    if results:
        expected.results[key] = value
    return ABSENT


def _formatted(form: str, results: Mapping[int, Any], count: int) -> Any:
    if form == "separate":
        return {str(index): value for index, value in results.items()}
    if form == "single":
        return results.get(count - 1)
    if form == "index":
        return [results.get(index) for index in range(count)]
    merged: list[Any] = []
    for value in results.values():
        merged += value if isinstance(value, list) else [value]
    return merged


def _succeeds(task: Mapping[str, Any], index: int) -> bool:
    inputs = task["inputs"]
    if index in inputs.get("fails", ()):
        return False
    return bool(inputs.get("flaky", {}).get(str(index), 0) < attempts_of(task))


def _tolerated(task: Mapping[str, Any], count: int) -> int:
    allowed = task.get("tolerated_failures", 0)
    return int(str(allowed).rstrip("%")) * count // 100 if isinstance(allowed, str) else int(allowed)
