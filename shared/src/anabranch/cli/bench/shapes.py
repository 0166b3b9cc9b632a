"""Builds the bench's requests as documents. Pure: without ids and times."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

ECHO = "echo"
STAMP = "bench.stamp"
"""Agent that returns when it began and ended; see `agents`."""


def fanout_request(tasks: int, wait: float = 0.0) -> Document:
    """One task of `tasks` members, each with one placeholder; each member waits for `wait` seconds."""
    expansion = _sequence("n", tasks)
    if wait:
        inputs = {"seconds": wait, "value": "member {n}"}
        task = _task("echo", "echoes", agent="sleep", inputs=inputs, expansion_config=expansion)
    else:
        task = _task("echo", "echoes", message_template="member {n}", expansion_config=expansion)
    return _request("bench fanout", fanout=[task])


def single_request() -> Document:
    """One task."""
    return _request("bench single", single=[_task("echo", "echoed", message_template="hello")])


def three_tasks_request() -> Document:
    """Three independent tasks."""
    tasks = [_task(f"echo-{number}", f"echoed-{number}", message_template="hello") for number in range(3)]
    return _request("bench three", three=tasks)


def stamp_request(timeout: float) -> Document:
    """One task that only workers with the bench's own agent can run."""
    return {**_request("bench probe", probe=[_task("stamp", "stamp", agent=STAMP)]), "timeout": timeout}


def two_stage_request(members: int, agent: str) -> Document:
    """A fan-out and a task that depends on its join."""
    first = _task("first", "ends", agent=agent, message_template="{n}", expansion_config=_sequence("n", members))
    second = _task("second", "start", agent=agent, dependencies=["ends"], message_template="joined")
    return _request("bench join lag", first=[first], second=[second])


def three_by_three_request() -> Document:
    """Three groups of three tasks; each task depends on all three tasks of the previous group."""
    groups = {
        f"group-{number}": [
            _task(f"task-{number}-{nth}", f"key-{number}-{nth}", dependencies=_keys_before(number))
            for nth in range(3)
        ]
        for number in range(3)
    }
    return _request("bench runs", **groups)


def chain_request(stages: int, width: int) -> Document:
    """`stages` fan-outs of `width` members, each over the joined list of the previous one."""
    groups = {"stage-0": [_stage(0, "{n}", _sequence("n", width))]}
    for number in range(1, stages):
        mapping = {"type": "array", "array_mapping": {"item": f"list-{number - 1}"}, "output_format": "merge"}
        task = _stage(number, "{item}", mapping)
        groups[f"stage-{number}"] = [{**task, "dependencies": [f"list-{number - 1}"]}]
    return _request("bench chain", **groups)


def workflow_request(layers: list[list[tuple[int, ...]]]) -> Document:
    """One group per layer, one task per node.

    Args:
        layers: each node is the tuple of the nodes that it depends on; nodes are numbered from 0 over all layers.
    """
    number = 0
    groups: dict[str, list[Document]] = {}
    for depth, layer in enumerate(layers):
        tasks = []
        for needs in layer:
            tasks.append(_task(f"t{number}", f"k{number}", dependencies=[f"k{each}" for each in needs]))
            number += 1
        groups[f"layer-{depth}"] = tasks
    return _request("bench workflow", **groups)


def _stage(number: int, message: str, expansion: Document) -> Document:
    return _task(f"stage-{number}", f"list-{number}", message_template=message, expansion_config=expansion)


def _keys_before(group: int) -> list[str]:
    return [f"key-{group - 1}-{nth}" for nth in range(3)] if group else []


def _sequence(variable: str, count: int) -> Document:
    sequence = {variable: {"start": 1, "end": count, "step": 1}}
    return {"type": "custom", "transform_rules": {"sequence": sequence}, "output_format": "merge"}


def _task(name: str, key: str, *, agent: str = ECHO, **more: Any) -> Document:
    return {"name": name, "agent": agent, "result_keys": [key], "message_template": "done", **more}


def _request(name: str, /, **groups: list[Document]) -> Document:
    return {"name": name, "task_groups": [{"name": key, "tasks": tasks} for key, tasks in groups.items()]}
