"""Runs with control flow, each with the phase in which its owners are killed, what is sent when, and its outcome.

Each function makes the scenario of one phase for a request id. The agent is `effect` of `system_agents`: a call
notes the mark in its inputs and its idempotency key, so an effect that happens twice has two keys under one mark.
`kill_rounds` makes marks unique, and opens the gates once the services are started again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anabranch.core.names import child_request_id, run_id_for

Json = dict[str, Any]
GATE = "GATE"
"""Stands for a file that is made after the kill, until which an effect does not end."""


@dataclass(frozen=True)
class Scenario:
    """A run and its phase. All records are sent to the topic of requests.

    Attributes:
        request: the request that is sent first.
        reached: fields of the event that shows that the phase is reached; `run_id` is that of the run by default.
        before: records that are sent then, and `settled`, the event that shows that they were received.
        trigger: records that are sent in the moment of the kill.
        during: records that are sent while the killed services are away, and twice.
        results: the results of the run that are compared.
        effects: the number of different effects by mark; no other marks may exist.
        earlier: the request of a run that has to end first, for a retry or a fork of it.
        repaired: a file that is made after the end of that run.

    With no `reached`, the request is sent after the kill.
    """

    request: Json
    reached: Json
    before: Sequence[Json] = ()
    settled: Json | None = None
    trigger: Sequence[Json] = ()
    during: Sequence[Json] = ()
    status: str = "completed"
    results: Mapping[str, Any] = field(default_factory=dict)
    effects: Mapping[str, int] = field(default_factory=dict)
    earlier: Json | None = None
    repaired: Path | None = None


Make = Callable[[str, Path], Scenario]


def effect(mark: str, value: Any = None, **more: Any) -> Json:
    """A task of `effect`, whose name and only result key are its mark."""
    names = ("seconds", "gate", "until")
    inputs = {"mark": mark, "value": value, **{key: more.pop(key) for key in names if key in more}}
    return {"name": mark, "agent": "effect", "inputs": inputs, "result_keys": [mark], "max_deliveries": 20, **more}


def wait(name: str, *needs: str, **how: Any) -> Json:
    return {"name": name, "wait": how, "result_keys": [name], "dependencies": list(needs)}


def request(request_id: str, *tasks: Json, groups: Sequence[Json] = (), **more: Any) -> Json:
    first = [{"name": "g", "tasks": list(tasks)}] if tasks else []
    return {"request_id": request_id, "task_groups": [*first, *groups], **more}


def signal(request_id: str, name: str, value: Any = None) -> Json:
    about = {"run_id": request_id} if _is_run_id(request_id) else {"request_id": request_id}
    return {"type": "signal", **about, "name": name, "value": value, "signal_id": f"{name}-1"}


def control(request_id: str, what: str, **fields: Any) -> Json:
    return {"type": what, "request_id": request_id, **fields}


def _is_run_id(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4


def loop(*body: Json, **spec: Any) -> Json:
    return {"name": "l", "loop": {"collect": "append", **spec}, "tasks": list(body)}


# --- conditions -------------------------------------------------------------------------------------------------


def a_switch_waits_for_its_condition(request_id: str, folder: Path) -> Scenario:
    cases = [
        {"when": "w.n > 3", "tasks": [effect("high", "high", result_keys=["level"])]},
        {"when": "w.n <= 3", "tasks": [effect("low", "low", result_keys=["level"])]},
    ]
    after = {"name": "after", "tasks": [effect("join", "{level}!", dependencies=["level"])]}
    choose = {"name": "choose", "switch": {"cases": cases}}
    return Scenario(
        request(request_id, wait("w", signal="go"), groups=[choose, after]),
        reached={"type": "task.waiting", "task": "w"},
        during=[signal(request_id, "go", {"n": 5})],
        results={"level": "high", "join": "high!"},
        effects={"high": 1, "join": 1},
    )


# --- loops ------------------------------------------------------------------------------------------------------


def a_loop_between_iterations(request_id: str, folder: Path) -> Scenario:
    count = 60
    return Scenario(
        request(
            request_id,
            groups=[loop(effect("step", "{item}", seconds=0.02), each=list(range(count)), max_iterations=count)],
        ),
        reached={"type": "task.completed", "task": "step", "iteration": [3]},
        results={"step": list(range(count)), "l.loop": {"iterations": count, "ended_by": "items"}},
        effects={"step": count},
    )


def a_loop_in_its_delay(request_id: str, folder: Path) -> Scenario:
    return Scenario(
        request(request_id, groups=[loop(effect("step", "{item}"), each=[1, 2, 3], delay=5)]),
        reached={"type": "task.completed", "task": "step", "iteration": [0]},
        results={"step": [1, 2, 3]},
        effects={"step": 3},
    )


def a_paused_loop_is_resumed(request_id: str, folder: Path) -> Scenario:
    body = effect("step", "{item}", gate=GATE)
    return Scenario(
        request(request_id, groups=[loop(body, each=[1, 2, 3, 4])]),
        reached={"type": "task.started", "task": "step", "iteration": [0]},
        before=[control(request_id, "pause")],
        settled={"type": "run.paused"},
        during=[control(request_id, "resume")],
        results={"step": [1, 2, 3, 4]},
        effects={"step": 4},
    )


def a_paused_loop_is_cancelled(request_id: str, folder: Path) -> Scenario:
    return Scenario(
        request(request_id, groups=[loop(effect("step", "{item}"), each=[1, 2, 3], delay=300)]),
        reached={"type": "task.completed", "task": "step", "iteration": [0]},
        before=[control(request_id, "pause")],
        settled={"type": "run.paused"},
        during=[control(request_id, "cancel")],
        status="cancelled",
        effects={"step": 1},
    )


def a_retry_of_a_loop(request_id: str, folder: Path) -> Scenario:
    """Of a loop of four iterations; in the third one, a task fails until a file exists. All tasks of the iteration
    that failed run again in the retry, so the third step has two effects."""
    needed = folder / f"{request_id}.repaired"
    body = [
        effect("step", "{item}"),
        effect("check", "{step}", when="step == 2", until=str(needed), seconds=1, dependencies=["step"]),
    ]
    earlier = request(f"{request_id}-first", groups=[loop(*body, each=[0, 1, 2, 3])])
    return Scenario(
        control(earlier["request_id"], "retry", failed=True, new_request_id=request_id),
        reached={"type": "task.started", "task": "check", "iteration": [2]},
        results={"step": [0, 1, 2, 3]},
        effects={"step": 5, "check": 1},
        earlier=earlier,
        repaired=needed,
    )


def a_fork_behind_a_loop(request_id: str, folder: Path) -> Scenario:
    after = effect("after", "{step}", gate="{gate}", dependencies=["step", "gate"])
    last = {"name": "last", "tasks": [after]}
    earlier = request(
        f"{request_id}-first", groups=[loop(effect("step", "{item}"), each=[0, 1, 2]), last], context={"gate": ""}
    )
    return Scenario(
        control(
            earlier["request_id"], "fork", **{"from": ["after"]}, set={"gate": GATE}, new_request_id=request_id
        ),
        reached={"type": "task.started", "task": "after"},
        results={"step": [0, 1, 2], "after": [0, 1, 2]},
        effects={"step": 3, "after": 2},
        earlier=earlier,
    )


# --- waits ------------------------------------------------------------------------------------------------------


def a_wait_for_a_time(request_id: str, folder: Path) -> Scenario:
    return Scenario(
        request(request_id, wait("w", **{"for": 6}), effect("after", 1, dependencies=["w"])),
        reached={"type": "task.waiting", "task": "w"},
        results={"w": None, "after": 1},
        effects={"after": 1},
    )


def a_signal_before_its_wait(request_id: str, folder: Path) -> Scenario:
    """The signal for the second wait comes before the kill, that for the first one during it."""
    return Scenario(
        request(
            request_id,
            wait("one", signal="first"),
            wait("two", "one", signal="second"),
            effect("after", "{two}", dependencies=["two"]),
        ),
        reached={"type": "task.waiting", "task": "one"},
        trigger=[signal(request_id, "second", "kept")],
        during=[signal(request_id, "first", "late")],
        results={"one": "late", "two": "kept", "after": "kept"},
        effects={"after": 1},
    )


def a_signal_before_its_run(request_id: str, folder: Path) -> Scenario:
    """The request is sent after the kill, and the signal before it."""
    outer = effect("outer", 1, seconds=0.1)
    return Scenario(
        request(request_id, wait("w", signal="go"), outer, effect("after", "{w}", dependencies=["w"])),
        reached={},
        trigger=[signal(request_id, "go", "early")],
        results={"w": "early", "after": "early"},
        effects={"outer": 1, "after": 1},
    )


def an_approval_is_decided_twice(request_id: str, folder: Path) -> Scenario:
    decide = {"group": "g", "task": "ask"}
    return Scenario(
        request(
            request_id,
            {"name": "ask", "wait": {"approval": {"subject": "Deploy?"}}, "result_keys": ["ask"]},
            effect("after", "{ask.by}", dependencies=["ask"]),
        ),
        reached={"type": "task.waiting", "task": "ask"},
        during=[
            control(request_id, "approve", **decide, decision="approve", by="ann", decision_id="d1"),
            control(request_id, "approve", **decide, decision="reject", by="bob", decision_id="d2"),
        ],
        results={"after": "ann"},
        effects={"after": 1},
    )


def event(request_id: str) -> Json:
    return {"type": "event", "name": "paid", "key": request_id, "id": f"{request_id}-1", "data": {"amount": 5}}


def an_event_before_its_wait(request_id: str, folder: Path) -> Scenario:
    """The event comes before the kill, and its wait opens after it."""
    return Scenario(
        request(
            request_id,
            wait("one", signal="first"),
            wait("paid", "one", event={"name": "paid", "key": request_id}),
            effect("after", "{paid.amount}", dependencies=["paid"]),
        ),
        reached={"type": "task.waiting", "task": "one"},
        trigger=[event(request_id)],
        during=[signal(request_id, "first")],
        results={"paid": {"amount": 5}, "after": 5},
        effects={"after": 1},
    )


def an_event_while_nobody_listens(request_id: str, folder: Path) -> Scenario:
    """The wait is open, and the event comes while its owner and that of the wait are away."""
    second = {"event": {"name": "paid", "key": request_id}, "timeout": 20, "on_timeout": "value", "value": "no"}
    return Scenario(
        request(
            request_id,
            wait("paid", event={"name": "paid", "key": request_id}),
            wait("again", "paid", **second),
            effect("after", ["{paid.amount}", "{again}"], dependencies=["paid", "again"]),
        ),
        reached={"type": "task.waiting", "task": "paid"},
        during=[event(request_id)],
        results={"paid": {"amount": 5}, "again": "no"},
        effects={"after": 1},
    )


# --- sub-runs ---------------------------------------------------------------------------------------------------


def _parent(request_id: str) -> tuple[Json, str]:
    """A parent that requests a child after a signal; the child waits for a signal too. Returns the run of both."""
    inner = [wait("hold", signal="on"), effect("inner", 7, seconds=1, dependencies=["hold"])]
    child = {"name": "child", "run": {"request": {"task_groups": [{"name": "in", "tasks": inner}]}}}
    run_id = run_id_for(child_request_id(run_id_for(request_id), "g", "child", 0))
    more = {"dependencies": ["w"], "result_keys": ["child"]}
    after = effect("after", "{child.inner}", dependencies=["child"])
    return request(request_id, wait("w", signal="go"), child | more, after), run_id


def _family(request_id: str, **phase: Any) -> Scenario:
    document, _ = _parent(request_id)
    results = {"child": {"hold": None, "inner": 7}, "after": 7}
    return Scenario(document, results=results, effects={"inner": 1, "after": 1}, **phase)


def a_sub_run_is_requested(request_id: str, folder: Path) -> Scenario:
    _, child = _parent(request_id)
    return _family(
        request_id,
        reached={"type": "task.waiting", "task": "w"},
        trigger=[signal(request_id, "go")],
        during=[signal(child, "on")],
    )


def a_sub_run_runs(request_id: str, folder: Path) -> Scenario:
    _, child = _parent(request_id)
    return _family(
        request_id,
        reached={"type": "task.waiting", "task": "w"},
        before=[signal(request_id, "go")],
        settled={"type": "task.waiting", "task": "hold", "run_id": child},
        during=[signal(child, "on")],
    )


def a_sub_run_answers(request_id: str, folder: Path) -> Scenario:
    _, child = _parent(request_id)
    return _family(
        request_id,
        reached={"type": "task.waiting", "task": "w"},
        before=[signal(request_id, "go"), signal(child, "on")],
        settled={"type": "task.completed", "task": "inner", "run_id": child},
    )


def a_parent_is_cancelled(request_id: str, folder: Path) -> Scenario:
    """No effect: the child is cancelled while it waits, and its parent ends after it."""
    document, child = _parent(request_id)
    return Scenario(
        document,
        reached={"type": "task.waiting", "task": "w"},
        before=[signal(request_id, "go")],
        settled={"type": "task.waiting", "task": "hold", "run_id": child},
        during=[control(request_id, "cancel")],
        status="cancelled",
    )


# --- ends of runs -----------------------------------------------------------------------------------------------


def finally_runs(request_id: str, folder: Path) -> Scenario:
    last = effect("clean", "{run.status}", gate=GATE)
    return Scenario(
        request(request_id, effect("work", 1), **{"finally": [last]}),
        reached={"type": "task.started", "task": "clean"},
        results={"work": 1, "clean": "completed"},
        effects={"work": 1, "clean": 1},
    )


def a_run_is_compensated(request_id: str, folder: Path) -> Scenario:
    """`b` is undone before `a`; the kill is while `b` is undone."""

    def undone(name: str, *needs: str) -> Json:
        undo = {"agent": "effect", "inputs": {"mark": f"undo {name}", "gate": GATE}}
        return effect(name, name, dependencies=list(needs), compensate=undo)

    broken = effect("c", dependencies=["b"], until=str(folder / "never"))
    return Scenario(
        request(request_id, undone("a"), undone("b", "a"), broken),
        reached={"type": "task.started", "group": "compensate", "task": "b"},
        status="failed",
        effects={"a": 1, "b": 1, "undo a": 1, "undo b": 1},
    )


SCENARIOS: tuple[Make, ...] = (
    a_switch_waits_for_its_condition,
    a_loop_between_iterations,
    a_loop_in_its_delay,
    a_paused_loop_is_resumed,
    a_paused_loop_is_cancelled,
    a_retry_of_a_loop,
    a_fork_behind_a_loop,
    a_wait_for_a_time,
    a_signal_before_its_wait,
    a_signal_before_its_run,
    an_approval_is_decided_twice,
    an_event_before_its_wait,
    an_event_while_nobody_listens,
    a_sub_run_is_requested,
    a_sub_run_runs,
    a_sub_run_answers,
    a_parent_is_cancelled,
    finally_runs,
    a_run_is_compensated,
)
"""All of them; each reaches its phase and stays in it until the kill, or is in it for seconds."""
