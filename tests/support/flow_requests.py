"""A request with each construct of control flow, for tests and pictures of what a user sees of them."""

from __future__ import annotations

from typing import Any


def release(iterations: int = 30) -> dict[str, Any]:
    """A switch, a loop, a wait, sub-runs, an approval that stays open, `finally`, and a task with `compensate`."""
    route = {
        "cases": [
            {"when": "score >= 0.8 && tests == 'passed'", "tasks": [_way("quick")]},
            {"when": "score >= 0.5", "tasks": [_way("careful")]},
        ],
        "default": {"tasks": [_way("reject")]},
    }
    greeting = {
        "name": "greeting",
        "task_groups": [{"name": "g", "tasks": [_echo("text", message_template="Hello {name}")]}],
    }
    greet = {
        "name": "greet",
        "dependencies": ["names", "draft"],
        "expansion_config": {"type": "array", "array_mapping": {"who": "names"}},
        "run": {"context": {"name": "{who}"}, "request": greeting},
    }
    approval = {"subject": "Release {draft}?", "assignees": ["ann"]}
    writing = {
        "name": "writing",
        "loop": {"until": f"draft == 'draft {iterations - 1}'", "max_iterations": 100},
        "tasks": [
            _echo("draft", message_template="draft {iteration}"),
            _echo("judge", message_template="judges {draft}", dependencies=["draft"]),
        ],
    }
    last = [
        {"name": "cool down", "wait": {"for": "1s"}, "after": ["writing/(loop)"]},
        greet,
        {"name": "sign-off", "wait": {"approval": approval}, "dependencies": ["draft", "way"]},
        _echo("publish", dependencies=["sign-off", "greet"], after=["cool down?"]),
    ]
    return {
        "name": "release of the forecast",
        "context": {"score": 0.9, "names": ["Ada", "Grace", "Edsger"]},
        "task_groups": [
            {"name": "checks", "tasks": [_echo("tests", message_template="passed", compensate={"agent": "echo"})]},
            {"name": "route", "switch": route},
            writing,
            {"name": "release", "tasks": last},
        ],
        "finally": [_echo("clean", message_template="the run {run.status}")],
    }


def _way(name: str) -> dict[str, Any]:
    return _echo(name, result_keys=["way"])


def _echo(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "agent": "echo", "message_template": name, **fields}
