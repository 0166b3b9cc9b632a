"""Publishes the decision of a person about a task that waits for one, and waits for the answer of its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anabranch.core.errors import AnabranchError
from anabranch.core.wire.events import EventEntry
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.sdk.control import send_control
from anabranch.sdk.run_events import follow_batches

if TYPE_CHECKING:
    from anabranch.sdk.client_ports import ClientPorts

ANSWER_SECONDS = 20.0
"""Seconds to wait for the answer of the session's owner."""


REFUSALS = {
    "gone": 410,
    "not_found": 404,
    "not_waiting": 410,
    "decided": 409,
    "unknown_decision": 422,
    "form": 422,
    "not_assignee": 403,
    "requester": 403,
    "unanswered": 503,
}
"""The reasons for which a decision does not count, with the HTTP status of each."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision that counts.

    Attributes:
        decision_id: a repeated decision with this id counts once.
        ended: True if the wait is over; False if more people have to decide.
        group, task, index: the member that it is about; `index` is None for a task without an expansion.
    """

    run_id: str
    decision: str
    decision_id: str
    by: str | None
    ended: bool
    group: str | None
    task: str | None
    index: int | None


class DecisionRefused(AnabranchError):
    """A decision does not count.

    Attributes:
        code: one of `REFUSALS`; `gone`: the run has ended, `unanswered`: no owner has answered in time.
        stood: with `decided`: the decision that counts, `{decision, by, at, data, comment}`.
        errors: with `form`: `{path, message}` of each field.
    """

    def __init__(
        self,
        code: str,
        message: str,
        stood: Mapping[str, Any] | None = None,
        errors: tuple[Mapping[str, Any], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.stood = stood
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Answerable:
    """A decision to publish: the fields of a control record of type `approve`."""

    run_id: str
    task: str
    decision: str = "approve"
    group: str | None = None
    index: int | None = None
    iteration: tuple[int, ...] | None = None
    data: Any = None
    comment: str = ""
    by: str | None = None
    decision_id: str | None = None
    timeout: float = field(default=ANSWER_SECONDS)


async def send_decision(ports: ClientPorts, wanted: Answerable) -> Decision:
    """Publish a decision, and return once it is on the log and decided.

    Raises:
        DecisionRefused: it does not count.
        RequestRefused: the fields are not a valid control record.
        ServerUnavailable: the log cannot be reached.
    """
    decision_id = wanted.decision_id or ports.ids.run_scoped()
    partition = await ports.log.partition_for(ports.names.events, wanted.run_id)
    async with ports.log.read(ports.names.events, [partition]) as reader:
        start = (await reader.end_offsets())[partition]
    await send_control(
        ports,
        {
            "type": "approve",
            "run_id": wanted.run_id,
            "group": wanted.group,
            "task": wanted.task,
            "index": wanted.index,
            "iteration": wanted.iteration,
            "decision": wanted.decision,
            "data": wanted.data,
            "comment": wanted.comment,
            "by": wanted.by,
            "decision_id": decision_id,
        },
    )
    entry = await _answer(ports, wanted, start, decision_id)
    if entry is None:
        raise await _unanswered(ports, wanted.run_id)
    if entry.type == "approval.refused":
        data = entry.data
        errors = tuple(data.get("errors") or ())
        raise DecisionRefused(str(data.get("code")), str(data.get("message")), data.get("stood"), errors)
    return Decision(
        run_id=wanted.run_id,
        decision=wanted.decision,
        decision_id=decision_id,
        by=wanted.by,
        ended=bool(entry.data.get("ended")),
        group=entry.group,
        task=entry.task,
        index=entry.spans[0][0] if entry.spans else None,
    )


async def _answer(ports: ClientPorts, wanted: Answerable, start: int, decision_id: str) -> EventEntry | None:
    """The event that says whether a decision counts; None if there is none in time."""
    open_run: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    try:
        async with asyncio.timeout(wanted.timeout):
            batches = follow_batches(ports.log, ports.names, wanted.run_id, start, open_run)
            async with aclosing(batches):
                async for batch in batches:
                    for entry in batch.entries:
                        if entry.data.get("decision_id") == decision_id:
                            return entry
    except TimeoutError:
        return None
    finally:
        open_run.cancel()
    return None


async def _unanswered(ports: ClientPorts, run_id: str) -> DecisionRefused:
    [record] = await load_run_records(ports.store, ports.names, (run_id,))
    if record is not None and record.final is None:
        message = "no owner has answered: the decision is on the log, send it again with the same decision_id"
        return DecisionRefused("unanswered", message)
    ended = "is not known" if record is None else f"has ended: {record.final_status}"
    return DecisionRefused("gone", f"run {run_id} {ended}")
