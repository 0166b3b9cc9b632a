"""The templates of a task: where its placeholders are. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anabranch.core.request.flow import Wait
from anabranch.core.request.models import TaskSpec


def templates_of(spec: TaskSpec) -> Iterator[Any]:
    """Everything of a task in which placeholders are replaced; null for a template that it does not have."""
    yield spec.inputs
    yield spec.message_template
    yield spec.shared_instructions
    if spec.cache is not None:
        yield spec.cache.key
    if spec.wait is not None:
        yield from _of_wait(spec.wait)
    if spec.run is not None:
        yield spec.run.context
    if spec.loop is not None:
        yield spec.loop.state or None
    if spec.compensate is not None:
        yield spec.compensate.inputs
    for limit in (spec.concurrency, spec.rate_limit):
        if limit is not None:
            yield limit.key


def _of_wait(wait: Wait) -> Iterator[Any]:
    yield wait.for_ if isinstance(wait.for_, str) else None
    yield wait.until
    yield wait.signal
    yield wait.value
    if wait.event is not None:
        yield wait.event.key
    if wait.approval is not None:
        yield wait.approval.subject
        yield wait.approval.body
        yield list(wait.approval.assignees)
