"""What there is to see of one member beside its row: its attempts and log, what it was given, and what it gave.

Reads the run's events and values; what is not known is null.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from anabranch.core.names import session_key
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.events import EventEntry
from anabranch.core.wire.results import is_reference
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.reading import values
from anabranch.runtime.reading.public_values import PublicValue, judged
from anabranch_gateway.context import GatewayContext
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.runs.lookup import Found
from anabranch_gateway.runs.member_projection import TaskMembers, new_entries, speaks_of
from anabranch_gateway.runs.rendering import AdmittedTask, given, own_result, task_of
from anabranch_gateway.runs.results import LARGEST, results_of

MAX_ATTEMPTS = 1_000
MAX_LOGS = 1_000


@dataclass(frozen=True, slots=True)
class MemberAddress:
    """The member that is looked at; `index` is None of an ordinary task."""

    parts: GatewayContext
    found: Found
    view: RunView
    group: str
    task: str
    index: int | None

    def ended(self, producer: tuple[str, str]) -> bool:
        """Whether a task has its results, as far as the view, which trails a little, or the final record says."""
        if self.found.final is not None:
            return True
        task = self.view.task(*producer)
        return task is not None and task.status in ("completed", "failed")


async def attempts(subject: MemberAddress) -> dict[str, Any]:
    """A member's attempts and last log lines, from the run's events; `logs_left_out` is the number of older
    lines."""
    noted = _Attempts()
    logs: list[dict[str, Any]] = []
    lines = 0
    async with aclosing(_events(subject)) as entries:
        async for entry in entries:
            if entry.type == "task.log":
                logs.append({"time": rfc3339(entry.time), "attempt": entry.attempt, **entry.data})
                del logs[:-MAX_LOGS]
                lines += 1
            elif entry.type in ("task.started", "task.completed", "task.failed", "task.retrying"):
                noted.note(entry)
    left_out = lines - len(logs)
    return {"attempts_log": noted.shown[-MAX_ATTEMPTS:], "logs": logs, "logs_left_out": left_out}


def with_traceback(document: dict[str, Any]) -> dict[str, Any]:
    """A member with the traceback of its last attempt in its error."""
    error, log = document.get("error"), document["attempts_log"]
    last = log[-1]["error"] if log else None
    if error is None or last is None:
        return document
    return document | {"error": error | {"traceback": last["traceback"]}}


class _Attempts:
    """The attempts of one member in order. A redrive counts them from 1 again."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []
        self._round: dict[int, dict[str, Any]] = {}

    def note(self, entry: EventEntry) -> None:
        if entry.data.get("redriven"):
            self._round = {}
            return
        if entry.data.get("dismissed"):
            return
        noted = self._of(entry.attempt or 1)
        if entry.type == "task.started":
            noted |= {"started_at": entry.time, "worker": entry.data.get("worker")}
            return
        noted["ended_at"] = entry.time
        if entry.type != "task.completed":
            noted["error"] = _error(entry.data)

    def _of(self, number: int) -> dict[str, Any]:
        if number not in self._round:
            noted = {"attempt": number, "started_at": None, "ended_at": None, "error": None, "worker": None}
            self._round[number] = noted
            self.shown.append(noted)
        return self._round[number]


def _error(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": data.get("error_type") or "",
        "message": data.get("message") or "",
        "traceback": data.get("traceback"),
    }


async def _events(subject: MemberAddress) -> AsyncGenerator[EventEntry, None]:
    live, run_id = subject.parts.live, subject.found.run_id
    partition = await live.partition_of(run_id)
    first = subject.view.events_from or 0
    causes: dict[str, int] = {}
    async with aclosing(live.history(run_id, partition, first, live.position(partition))) as records:
        async for record in records:
            for entry in new_entries(record.batch, causes) if record.batch is not None else ():
                if speaks_of(entry, subject.group, subject.task, subject.index):
                    yield entry


# --- what it was given, and what it gave ---------------------------------------------------------


async def given_and_result(subject: MemberAddress, folded: TaskMembers) -> dict[str, Any]:
    """`variables`, `message`, `inputs`, `result` and `result_known`; null where not known."""
    unknown = dict.fromkeys(("variables", "message", "inputs", "result", "result_known"))
    found = subject.found
    try:
        admitted = await subject.parts.requests.of(found)
    except Refusal:  # the log has the request no more, or not yet: the member's events are still told
        return unknown
    task = task_of(admitted, subject.group, subject.task)
    if task is None:
        return unknown
    produced = {key for _, spec in admitted.tasks for key in spec.result_keys}
    context = {key: value for key, value in admitted.request.context.items() if key not in produced}
    known = {**context, **await _values(subject, task)}
    what = given(task, subject.index, known, {"run_id": found.run_id, "session_id": found.session_id})
    return what.to_document() | await _result(subject, task, folded, what.identifier)


async def _values(subject: MemberAddress, task: AdmittedTask) -> dict[str, Any]:
    """The values of a task's dependencies, as far as they are there and small enough."""
    wanted = [
        need.key
        for need in task.needs
        if need.kind in ("session", "external") or (need.producer is not None and subject.ended(need.producer))
    ]
    found: dict[str, Any] = {}
    for key, value in (await _stored(subject, wanted)).items():
        known = await _resolved(subject, value)
        if not known.is_reference:
            found[key] = known.data
    return found


async def _stored(subject: MemberAddress, keys: Sequence[str]) -> dict[str, PublicValue]:
    """Values of the run, or of its session: out of the final record where there is one."""
    client, found = subject.parts.client, subject.found
    session_id = found.session_id
    results = {} if found.final is None else await results_of(client, found.final, session_id)
    told = {key: results[key] for key in keys if key in results}
    values_found = {key: PublicValue(value, is_reference(value, session_id)) for key, value in told.items()}
    outside = [key for key in keys if key not in results]
    stored = await client.store.get([session_key(session_id, key) for key in outside]) if outside else []
    for key, data in zip(outside, stored, strict=True):
        if data is not None:
            public = await judged(client.store, client.names, session_id, key, data)
            values_found |= {key: public} if public is not None else {}
    return values_found


async def _resolved(subject: MemberAddress, value: PublicValue) -> PublicValue:
    """The value itself, unless it is a reference to a value that is too large to show."""
    if not value.is_reference or value.data["bytes"] > LARGEST:
        return value
    client, session_id = subject.parts.client, subject.found.session_id
    return PublicValue(await values.resolve(client.store, client.names, value.data, within=session_id))


async def _result(
    subject: MemberAddress, task: AdmittedTask, folded: TaskMembers, identifier: str | None
) -> dict[str, Any]:
    """`result`: the member's own value of each result key; `result_known`: how well that is known."""
    keys, index = task.spec.result_keys, subject.index
    if not folded.completed(index or 0) or not subject.ended((task.group, task.spec.name)):
        return {"result": dict.fromkeys(keys), "result_known": None}
    joined = await _stored(subject, keys)
    completed = [] if index is None else folded.page(0, len(folded), "completed")
    result: dict[str, Any] = {}
    known = set()
    for key in keys:
        value = joined.get(key, PublicValue(None))
        own, is_known = await _read_alone(subject, value)
        whole = value if is_known else await _resolved(subject, value)
        if is_known or whole.is_reference:
            result[key], how = own, "exact" if is_known else None
        else:
            result[key], how = own_result(task, index, identifier, whole.data, completed, len(folded))
        known.add(how)
    surest = next((how for how in (None, "position", "exact") if how in known), None)
    return {"result": result, "result_known": surest}


async def _read_alone(subject: MemberAddress, value: PublicValue) -> tuple[Any, bool]:
    """The member's part of a stored value, read without the other members' parts; and whether that part is
    known."""
    if not value.is_reference or subject.index is None:
        return None, False
    client, within = subject.parts.client, subject.found.session_id
    return await values.member_value(client.store, client.names, value.data, subject.index, within=within)
