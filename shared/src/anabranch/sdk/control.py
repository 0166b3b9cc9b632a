"""Publishes control records for the client.

The client validates a record, and checks whether a run can be retried, to report errors at once. The owner of the
run decides in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.event_addresses import event_address
from anabranch.core.names import Names, run_id_for
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.envelope import json_pointer
from anabranch.core.request.models import ControlRecord
from anabranch.core.request.schema_errors import schema_problems
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Outgoing
from anabranch.runtime.reading.run_records import load_run_records

if TYPE_CHECKING:
    from anabranch.sdk.client import Client
    from anabranch.sdk.client_ports import ClientPorts
    from anabranch.sdk.run import Run


async def send_control(links: ClientPorts, fields: Mapping[str, Any]) -> None:
    """Publish a control record with these fields; fields that are None are omitted.

    Raises:
        RequestRefused: the fields are not a valid control record.
        ServerUnavailable: the record could not be published.
    """
    await links.log.publish([control_record(links.names, fields)])


def control_record(names: Names, fields: Mapping[str, Any]) -> Outgoing:
    """The control record with these fields; fields that are None are omitted.

    Raises:
        RequestRefused: the fields are not a valid control record.
    """
    document = {name: value for name, value in fields.items() if value is not None}
    try:
        record = ControlRecord.model_validate(document)
    except ValidationError as error:
        raise RequestRefused(tuple(schema_problems(error, document, json_pointer))) from error
    key = record.request_id or record.run_id
    if record.type == "event":
        # The events of an address stay in the order in which one sender publishes them.
        key = event_address(record.project or DEFAULT_PROJECT, record.name or "", record.key)
    return Outgoing(names.requests, key, orjson.dumps(document))


async def retry(
    client: Client, run_or_request_id: str, request_id: str, by: str | None, reason: str | None
) -> Run:
    """See `Client.retry`."""
    before = await client.run_id_of(run_or_request_id)
    run_id = run_id_for(request_id)
    known, existing = await load_run_records(client.store, client.names, (before, run_id))
    problem = why_not_retried(run_or_request_id, known) or _conflict(before, existing)
    if problem is not None:
        raise RequestRefused([problem])
    assert known is not None
    run = await client.watch(run_id, request_id, known.session_id, None)
    fields = {"failed": True, "new_request_id": request_id, "by": by, "reason": reason}
    await send_control(client.links, {"type": "retry", "run_id": before, **fields})
    return run


async def fork(
    client: Client,
    run_or_request_id: str,
    request_id: str,
    tasks: Sequence[str],
    values: Mapping[str, Any],
    request: Mapping[str, Any] | None,
    by: str | None,
    reason: str | None,
) -> Run:
    """See `Client.fork`."""
    before = await client.run_id_of(run_or_request_id)
    run_id = run_id_for(request_id)
    known, existing = await load_run_records(client.store, client.names, (before, run_id))
    problem = why_not_retried(run_or_request_id, known, is_fork=True)
    if existing is not None and existing.accepted.get("forked_from") != before:
        problem = problem or _conflict(before, existing)
    if problem is not None:
        raise RequestRefused([problem])
    assert known is not None
    run = await client.watch(run_id, request_id, known.session_id, None)
    record = {"type": "fork", "run_id": before, "new_request_id": request_id, "request": request}
    # Empty fields are left out: the record is checked as if a user had written it.
    more = {"from": list(tasks) or None, "set": dict(values) or None, "by": by, "reason": reason}
    await send_control(client.links, record | more)
    return run


def why_not_retried(run: str, known: RunRecord | None, *, is_fork: bool = False) -> Problem | None:
    """The reason why a run cannot be retried, from its tombstone; None if it can."""
    if known is None:
        hint = "see: anabranch list; a run whose record has expired has to be submitted again"
        return Problem(Code.NOT_RETRYABLE, "/run_id", f"there is no run {run}", hint)
    if known.final is None:
        return Problem(Code.NOT_RETRYABLE, "/run_id", f"run {run} is still open", "wait for its end, or cancel it")
    if known.final_status == "completed" and not is_fork:
        hint = "submit it with a new request id to run it again"
        return Problem(Code.NOT_RETRYABLE, "/run_id", f"run {run} completed: nothing failed", hint)
    return None


def _conflict(before: str, existing: RunRecord | None) -> Problem | None:
    if existing is None or existing.retry_of == before:
        return None
    message = "this request id was used before, for something else"
    return Problem(Code.REQUEST_ID_CONFLICT, "/new_request_id", message, "use a new one")
