"""The first values of a loop's state, with their placeholders filled in. Pure."""

from __future__ import annotations

from typing import Any

from anabranch.core.errors import AnabranchError
from anabranch.core.templates import Scope, placeholders, render
from anabranch_taskgroup.session.conditions import condition_values
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.visible import is_under


class InvalidState(AnabranchError):
    """A first value cannot be filled in. Fails the loop."""


def first_state(run: Run, task: Task) -> dict[str, Value]:
    """The state before the first iteration, by name.

    Raises:
        InvalidState: a placeholder names a value that is in the store, or its text is too large.
    """
    spec = task.order.loop
    assert spec is not None
    named = placeholders(spec.state)
    if not named:
        return {name: Value(value) for name, value in spec.state.items()}
    values = condition_values(run, task)
    stored = [key for key, value in values.items() if value.is_reference and is_under(key, named)]
    if stored:
        raise InvalidState(
            f"`state` of the loop names {stored[0]!r}, whose value is too large for the owner's memory: have a "
            "task of the body read it as a dependency, and keep only what changes in the state"
        )
    context = {key: run.context[key] for key in task.order.context_keys if key in run.context}
    system = {"run_id": run.run_id, "session_id": run.session_id, "task_name": task.name}
    scope = Scope({key: value.data for key, value in values.items()}, context, system)
    try:
        rendered: dict[str, Any] = render(spec.state, scope, typed=True)
    except AnabranchError as error:
        raise InvalidState(f"`state` of the loop: {error}") from error
    return {name: Value(value) for name, value in rendered.items()}
