"""The built-in agents `echo`, `sleep`, `fail`, `emit` and `http`.

`http_agent` has the rules of `http`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from anabranch.core.durations import parse_duration
from anabranch.core.errors import GiveUp, RequestRefused
from anabranch.core.templates import compact_json
from anabranch.sdk.agents import agent
from anabranch.sdk.http_agent import HttpAgent
from anabranch.sdk.http_policy import AllowList
from anabranch.sdk.task import Task


def builtin_agents(environ: Mapping[str, str]) -> list[Callable[..., Any]]:
    """All of them. `environ` may have `ANABRANCH_HTTP_ALLOW`."""
    return [echo, sleep, fail, emit, HttpAgent(AllowList.parse(environ.get("ANABRANCH_HTTP_ALLOW", "")))]


@agent("echo")
async def echo(task: Task) -> Any:
    """Returns the rendered `inputs`, or the message of a task without `inputs`."""
    return task.message if task.inputs is None else task.inputs


@agent("sleep")
async def sleep(task: Task) -> Any:
    """Waits for `inputs.seconds` (a duration), then returns `inputs.value`."""
    inputs = _object(task, "sleep")
    try:
        seconds = parse_duration(inputs.get("seconds", 0))
    except ValueError as error:
        raise GiveUp(f"sleep: inputs.seconds: {error}") from error
    await asyncio.sleep(seconds)
    return inputs.get("value")


@agent("fail")
async def fail(task: Task) -> Any:
    """Fails the first `inputs.times` attempts (by default all), then returns `inputs.value`.

    `inputs.message` is the error's text.
    """
    inputs = _object(task, "fail")
    times = _times(inputs.get("times"))
    if times is None or task.attempt <= times:
        of = "always" if times is None else f"the first {times} attempts"
        raise RuntimeError(str(inputs.get("message") or f"requested failure ({of}), attempt {task.attempt}"))
    return inputs.get("value")


@agent("emit")
async def emit(task: Task) -> dict[str, str]:
    """Publishes the event `inputs.name` with `inputs.key` and `inputs.data`, then returns its id, name and key.

    `inputs.ttl` is how long it is kept, `inputs.deliver` is `all` or `one`. `inputs.id` is by default that of the
    member: its event is published once, however often the member is attempted.
    """
    inputs = _object(task, "emit")
    name, key, event_id = inputs.get("name"), _key(inputs.get("key")), inputs.get("id")
    if not isinstance(name, str):
        raise GiveUp(f"emit: inputs.name is {name!r}, must be the name that tasks wait for")
    given = None if event_id is None else str(event_id)
    try:
        event_id = await task.publish(
            name, key, inputs.get("data"), id=given, ttl=inputs.get("ttl"), deliver=inputs.get("deliver")
        )
    except RequestRefused as refused:
        raise GiveUp(f"emit: {'; '.join(map(str, refused.errors))}") from refused
    return {"id": event_id, "name": name, "key": key}


def _key(given: Any) -> str:
    """The correlation key: a text, or a number as it is inserted into a template."""
    if given is None:
        return ""
    return given if isinstance(given, str) else compact_json(given)


def _times(given: Any) -> int | None:
    if given is None:
        return None
    try:
        return int(given)
    except (TypeError, ValueError) as error:
        raise GiveUp(f"fail: inputs.times is {given!r}, must be an integer") from error


def _object(task: Task, name: str) -> Mapping[str, Any]:
    if task.inputs is None:
        return {}
    if not isinstance(task.inputs, Mapping):
        raise GiveUp(f"{name}: inputs is {task.inputs!r}, must be an object")
    return task.inputs
