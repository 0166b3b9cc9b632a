"""Reads the request of a run from the log and submits it again as a retry.

Only the record that admitted a run has its request in the original form; the run record has its offset.
`run.control` decides whether a run may be retried.
"""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.core.errors import Code, Problem
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names, run_id_for
from anabranch.core.request.forking import TIMES
from anabranch.core.request.request_hash import body_hash
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.codec import RUNS, Undecodable, encode
from anabranch.core.wire.messages import ControlRun, SubmitRun
from anabranch.core.wire.results import RunRejected
from anabranch.ports import EventLog, Incoming, Outgoing
from anabranch_agency.run.turn import Resubmit


async def resubmitted(log: EventLog, names: Names, partition: int, effect: Resubmit) -> Sequence[Outgoing]:
    """The submission of the retry, or its refusal if the request is no longer on the log.

    Raises:
        ServerUnavailable: the log cannot be read.
    """
    record = await _record_at(log, names.runs, partition, effect.offset)
    found = _submission(record, effect.control.run_id)
    if found is None:
        return [_refusal(names, effect, record)]
    retry = retry_of(found, effect.control)
    return [Outgoing(names.runs, retry.run_id, encode(retry))]


def retry_of(first: SubmitRun, control: ControlRun) -> SubmitRun:
    """The same request under a new id, in the same session. Its hash differs from that of any other request with
    that id."""
    assert control.new_request_id is not None
    return first.model_copy(
        update={
            "run_id": run_id_for(control.new_request_id),
            "request_id": control.new_request_id,
            "body_hash": body_hash({"retry_of": first.run_id, "request": first.request}),
            "origin": control.origin,
            "traceparent": control.traceparent,
            "retry_of": first.run_id,
            # The times were those of the first run: a retry starts now.
            "request": {name: value for name, value in first.request.items() if name not in TIMES},
            # The parent of a sub-run has taken its first outcome for good.
            "parent": None,
            # So has the schedule.
            "schedule": None,
            "by": control.by,
            "reason": control.reason,
            "forked_from": None,
            "taken": (),
        }
    )


async def _record_at(log: EventLog, topic: str, partition: int, offset: int) -> Incoming:
    """The record at an offset, or the first one after it. There always is one: the retry's own control record."""
    async with log.read(topic, [partition], start=offset) as reader:
        async for batch in reader:
            return batch[0]
    raise AssertionError("a reader waits at the end of the log")


async def submission_at(log: EventLog, topic: str, partition: int, offset: int, run_id: str) -> SubmitRun | None:
    """The request of a run by its offset; None if it is no longer on the log. Raises ServerUnavailable."""
    return _submission(await _record_at(log, topic, partition, offset), run_id)


def _submission(record: Incoming, run_id: str) -> SubmitRun | None:
    try:
        message = RUNS.decode(record.value).message
    except Undecodable:
        return None
    # If retention has removed the request, this is the first record after it, which belongs to any run.
    return message if isinstance(message, SubmitRun) and message.run_id == run_id else None


def _refusal(names: Names, effect: Resubmit, at: Incoming) -> Outgoing:
    control = effect.control
    request_id = control.new_request_id or ""
    run_id = run_id_for(request_id)
    problem = Problem(
        Code.NOT_RETRYABLE,
        "/run_id",
        f"the request of run {control.run_id} is no longer on the log",
        "submit the request again: the retention of the topic `runs` is over",
    )
    body = RunRejected(
        request_id=request_id, run_id=run_id, session_id=None, project=effect.project, errors=(problem,)
    ).to_document()
    headers = cloud_event_headers("run.rejected", f"{control.origin}/rejected", at.timestamp, subject=run_id)
    return Outgoing(names.results, request_id, dumps(body), headers=headers)
