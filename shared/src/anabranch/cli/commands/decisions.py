"""`run --decide TASK=DECISION`: decides about the tasks of a run that wait for a person, as soon as they do."""

from __future__ import annotations

import asyncio
import getpass
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.cli.backends.backend import FollowedRun, Installation
from anabranch.cli.render.output import say
from anabranch.core.errors import Misconfigured
from anabranch.core.wire.events import EventEntry
from anabranch.sdk.approvals import Answerable, DecisionRefused

_OPTION = "--decide"
_EXAMPLE = """such as --decide release=approve, or --decide 'release={"decision": "approve", "data": {}}'"""
_FIELDS = ("decision", "data", "comment", "by")


@dataclass(frozen=True, slots=True)
class GivenDecision:
    """A decision for the next wait of a task, `task` or `group/task`."""

    task: str
    decision: str
    data: Any = None
    comment: str = ""
    by: str | None = None


def decisions_of(texts: Sequence[str]) -> list[GivenDecision]:
    """The values of `--decide`: TASK=DECISION, or TASK= an object with `decision`, `data`, `comment`, `by`.

    Raises:
        Misconfigured: a text is neither.
    """
    return [_decision(text) for text in texts]


def _decision(text: str) -> GivenDecision:
    task, equals, value = text.partition("=")
    if not (task and equals and value):
        raise Misconfigured(_OPTION, f"{text!r} is not TASK=DECISION", _EXAMPLE)
    if not value.startswith("{"):
        return GivenDecision(task, value)
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Misconfigured(_OPTION, f"{value[:100]!r} is not JSON: {error}", _EXAMPLE) from error
    strange = [name for name in fields if name not in _FIELDS]
    if strange or not isinstance(fields.get("decision"), str):
        reason = f"has the unknown field {strange[0]!r}" if strange else "has no `decision`"
        raise Misconfigured(_OPTION, f"{value[:100]!r} {reason}", f"the fields are {', '.join(_FIELDS)}")
    return GivenDecision(task, **fields)


@asynccontextmanager
async def deciding(
    system: Installation, run: FollowedRun, decisions: Sequence[GivenDecision]
) -> AsyncGenerator[None, None]:
    """Decide while the context is open: each decision counts for one wait of its task, in the order given."""
    if not decisions:
        yield
        return
    task = asyncio.create_task(_decide(system, run, decisions))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _decide(system: Installation, run: FollowedRun, decisions: Sequence[GivenDecision]) -> None:
    left: Mapping[str, deque[GivenDecision]] = defaultdict(deque)
    for each in decisions:
        left[each.task].append(each)
    last = -1
    async for batch in run.event_batches():
        for entry in batch.entries if batch.source == "groups" else ():
            if entry.cause <= last:
                continue  # repeated
            last = entry.cause
            if entry.type == "task.waiting" and entry.data.get("reason") == "approval":
                await _decide_members(system, run.run_id, entry, left)


async def _decide_members(
    system: Installation, run_id: str, entry: EventEntry, left: Mapping[str, deque[GivenDecision]]
) -> None:
    indexes = (
        [None] if entry.spans is None else [index for start, end in entry.spans for index in range(start, end)]
    )
    for index in indexes:
        waiting = left[str(entry.task)] or left[f"{entry.group}/{entry.task}"]
        if not waiting:
            return
        given = waiting.popleft()
        wanted = Answerable(
            run_id,
            str(entry.task),
            given.decision,
            group=entry.group,
            index=index,
            iteration=entry.iteration or None,
            data=given.data,
            comment=given.comment,
            by=given.by or getpass.getuser(),
        )
        try:
            await system.decide_approval(wanted)
        except DecisionRefused as refused:
            say(f"Warning: {_OPTION} {given.task}={given.decision} does not count: {refused}")
