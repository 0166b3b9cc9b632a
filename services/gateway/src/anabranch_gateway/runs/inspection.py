"""Details of one member beyond its row: its attempts and log lines, its inputs, and its results.

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
from anabranch.core.wire.usage import usage_at, usage_document
from anabranch.runtime.reading import values
from anabranch.runtime.reading.public_values import PublicValue, classify_value
from anabranch.sdk.client import Client
from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.runs.admitted_requests import AdmittedRequests
from anabranch_gateway.runs.lookup import FoundRun
from anabranch_gateway.runs.member_projection import TaskMembers, is_about, new_entries
from anabranch_gateway.runs.rendering import AdmittedTask, find_task, member_result, rendered_inputs
from anabranch_gateway.runs.results import MAX_VALUE_BYTES, load_results

MAX_ATTEMPTS = 1_000
MAX_LOGS = 1_000


@dataclass(frozen=True, slots=True)
class MemberAddress:
    """One member of a run. `index` is None for the member of an ordinary task."""

    found: FoundRun
    view: RunView
    group: str
    task: str
    index: int | None

    def has_results(self, producer: tuple[str, str]) -> bool:
        """True if a task (group, name) has its results, according to the final record, or the view, which may
        lag."""
        if self.found.final is not None:
            return True
        group, task = producer
        found = self.view.task(group, task)
        return found is not None and found.status in ("completed", "failed")


class MemberInspector:
    """Reads the details of members from events, values and requests."""

    def __init__(self, client: Client, broadcaster: EventBroadcaster, requests: AdmittedRequests) -> None:
        self._client = client
        self._broadcaster = broadcaster
        self._requests = requests

    async def attempts(self, subject: MemberAddress) -> dict[str, Any]:
        """A member's attempts and last log lines, from the run's events.

        Returns:
            `attempts_log`, `logs`, and `logs_left_out`, the number of older lines. Raises ServerUnavailable.
        """
        attempts = _Attempts()
        logs: list[dict[str, Any]] = []
        lines = 0
        async with aclosing(self._events(subject)) as entries:
            async for entry in entries:
                if entry.type == "task.log":
                    logs.append({"time": rfc3339(entry.time), "attempt": entry.attempt, **entry.data})
                    del logs[:-MAX_LOGS]
                    lines += 1
                elif entry.type in ("task.started", "task.completed", "task.failed", "task.retrying"):
                    attempts.add(entry, _usage(entry, subject.index))
        left_out = lines - len(logs)
        return {"attempts_log": attempts.documents[-MAX_ATTEMPTS:], "logs": logs, "logs_left_out": left_out}

    async def _events(self, subject: MemberAddress) -> AsyncGenerator[EventEntry, None]:
        broadcaster, run_id = self._broadcaster, subject.found.run_id
        partition = await broadcaster.partition_of(run_id)
        first, until = subject.view.events_from or 0, broadcaster.position(partition)
        causes: dict[str, int] = {}
        async with aclosing(broadcaster.history(run_id, partition, first, until)) as records:
            async for record in records:
                for entry in new_entries(record.batch, causes) if record.batch is not None else ():
                    if is_about(entry, subject.group, subject.task, subject.index):
                        yield entry

    async def inputs_and_result(self, subject: MemberAddress, members: TaskMembers) -> dict[str, Any]:
        """`variables`, `message`, `inputs`, `result` and `result_known`; null for what is not known.

        Raises:
            ServerUnavailable: log or store does not respond.
        """
        unknown = dict.fromkeys(("variables", "message", "inputs", "result", "result_known"))
        found = subject.found
        try:
            admitted = await self._requests.get(found)
        except Refusal:
            # The log no longer has the request, or not yet; the member's events can be shown without it.
            return unknown
        task = find_task(admitted, subject.group, subject.task)
        if task is None:
            return unknown
        # A result key may also be in the request's context: the task's value replaces that one.
        produced = {key for _, spec in admitted.tasks for key in spec.result_keys}
        context = {key: value for key, value in admitted.request.context.items() if key not in produced}
        known = {**context, **await self._dependencies(subject, task)}
        system = {"run_id": found.run_id, "session_id": found.session_id}
        inputs = rendered_inputs(task, subject.index, known, system)
        return inputs.to_document() | await self._result(subject, task, members, inputs.identifier)

    async def _dependencies(self, subject: MemberAddress, task: AdmittedTask) -> dict[str, Any]:
        """The values of a task's dependencies that exist and are not too large to show."""
        wanted = [
            need.key
            for need in task.needs
            if need.kind in ("session", "external")
            or (need.producer is not None and subject.has_results(need.producer))
        ]
        found: dict[str, Any] = {}
        for key, value in (await self._stored(subject, wanted)).items():
            resolved = await self._resolved(subject, value)
            if not resolved.is_reference:
                found[key] = resolved.data
        return found

    async def _stored(self, subject: MemberAddress, keys: Sequence[str]) -> dict[str, PublicValue]:
        """Values of an ended run from its final record, and all others from its session."""
        client, found = self._client, subject.found
        session_id = found.session_id
        results = {} if found.final is None else await load_results(client, found.final, session_id)
        own = {key: results[key] for key in keys if key in results}
        values_found = {key: PublicValue(value, is_reference(value, session_id)) for key, value in own.items()}
        outside = [key for key in keys if key not in results]
        stored = await client.store.get([session_key(session_id, key) for key in outside]) if outside else []
        for key, data in zip(outside, stored, strict=True):
            if data is not None:
                public = await classify_value(client.store, client.names, session_id, key, data)
                values_found |= {key: public} if public is not None else {}
        return values_found

    async def _resolved(self, subject: MemberAddress, value: PublicValue) -> PublicValue:
        """The value itself, unless it is a reference to a value that is too large to show."""
        if not value.is_reference or value.data["bytes"] > MAX_VALUE_BYTES:
            return value
        client, session_id = self._client, subject.found.session_id
        return PublicValue(await values.resolve(client.store, client.names, value.data, within=session_id))

    async def _result(
        self, subject: MemberAddress, task: AdmittedTask, members: TaskMembers, identifier: str | None
    ) -> dict[str, Any]:
        """`result`: the member's own value of each result key; `result_known`: the certainty of all of them."""
        keys, index = task.spec.result_keys, subject.index
        if not members.is_completed(index or 0) or not subject.has_results((task.group, task.spec.name)):
            return {"result": dict.fromkeys(keys), "result_known": None}
        joined = await self._stored(subject, keys)
        completed = [] if index is None else members.page(0, len(members), "completed")
        result: dict[str, Any] = {}
        certainties = set()
        for key in keys:
            value = joined.get(key, PublicValue(None))
            own, is_known = await self._read_member_value(subject, value)
            whole = value if is_known else await self._resolved(subject, value)
            if is_known or whole.is_reference:
                result[key], certainty = own, "exact" if is_known else None
            else:
                result[key], certainty = member_result(
                    task, index, identifier, whole.data, completed, len(members)
                )
            certainties.add(certainty)
        # The least certain of the keys counts: unknown before a guess by position before exact.
        weakest = next((each for each in (None, "position", "exact") if each in certainties), None)
        return {"result": result, "result_known": weakest}

    async def _read_member_value(self, subject: MemberAddress, value: PublicValue) -> tuple[Any, bool]:
        """The member's part of a stored value, read without the parts of the other members; and whether that part
        is known."""
        if not value.is_reference or subject.index is None:
            return None, False
        client, within = self._client, subject.found.session_id
        return await values.member_value(client.store, client.names, value.data, subject.index, within=within)


def with_traceback(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a member, with the traceback of its last attempt added to its error."""
    error, attempts = document.get("error"), document["attempts_log"]
    last = attempts[-1]["error"] if attempts else None
    if error is None or last is None:
        return document
    return document | {"error": error | {"traceback": last["traceback"]}}


_OF_SOME = ("usd", "tokens", "cached_from")
"""Fields of an attempt that has spent something, or whose value is from the cache of results."""


class _Attempts:
    """The attempts of one member in order. A redrive numbers them from 1 again."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []
        self._round: dict[int, dict[str, Any]] = {}
        """Attempts by number since the last redrive."""

    def add(self, entry: EventEntry, used: Mapping[str, Any]) -> None:
        """Apply an event of the member; `used` is what its attempt used."""
        if entry.data.get("redriven"):
            self._round = {}
            return
        if entry.data.get("dismissed"):
            return
        attempt = self._attempt(entry.attempt or 1)
        if entry.type == "task.started":
            attempt |= {"started_at": entry.time, "worker": entry.data.get("worker")}
            return
        attempt["ended_at"] = entry.time
        attempt |= used
        attempt |= {name: entry.data[name] for name in _OF_SOME if name in entry.data}
        if entry.type != "task.completed":
            attempt["error"] = _error(entry.data)

    def _attempt(self, number: int) -> dict[str, Any]:
        if number not in self._round:
            attempt = {"attempt": number, "started_at": None, "ended_at": None, "error": None, "worker": None}
            attempt |= usage_document({})
            self._round[number] = attempt
            self.documents.append(attempt)
        return self._round[number]


def _usage(entry: EventEntry, index: int | None) -> Mapping[str, Any]:
    """What the attempt of a member used that ended with an event."""
    if index is None or entry.spans is None:
        return usage_at(entry.data, 0)
    place = 0
    for start, stop in entry.spans:
        if start <= index < stop:
            return usage_at(entry.data, place + index - start)
        place += stop - start
    return {}


def _error(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": data.get("error_type") or "",
        "message": data.get("message") or "",
        "traceback": data.get("traceback"),
    }
