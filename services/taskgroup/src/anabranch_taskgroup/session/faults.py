"""What follows where a record of a run cannot be decided about: the run fails, with that as the reason. Pure.

A record that is dropped would leave its run waiting for ever. So the run's owner is told, and stops the run. Where
even that stop fails here, the state of the run is given up: nothing more is expected of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import FailRun, Message, OpenRun, StopRun
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.ownership.effects import Effect, PublishAfter
from anabranch_taskgroup.session.known_runs import abandon
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.turn import DecisionConfig, Turn

FAULT = "InternalError"
HEADER_START, HEADER_END = 4_096, 40
"""Of a header, which has the run's id among its first fields and the type of the message last."""
OPENS = b'"type":"open_run"'
"""Stands in the header of a record that opens a run."""
_RUN_ID = re.compile(rb'"run_id":"([0-9A-Za-z._~-]+)"')


def give_up(
    rules: DecisionConfig, state: PartitionState, message: Message, record: Incoming, why: str
) -> Iterator[Effect]:
    """The run of a message that could not be decided about fails; of a stop, at once."""
    run = state.runs.get(getattr(message, "run_id", ""))
    if run is None:
        if isinstance(message, OpenRun):
            yield _unopened(rules, state, message.run_id, message.admission, record, why)
        return
    is_last_resort = isinstance(message, StopRun)
    yield _failed(rules, state, run, record, why, abandoned=is_last_resort)
    if is_last_resort:
        turn = Turn(rules, state, record.offset, record.timestamp)
        abandon(turn, run)
        yield from turn.effects


def fail_named(rules: DecisionConfig, state: PartitionState, record: Incoming, why: str) -> Iterator[Effect]:
    """The run fails that a record names which nobody decodes, if it is open here or the record would open it."""
    named = _RUN_ID.search(record.value[:HEADER_START])
    run = state.runs.get(named[1].decode()) if named else None
    if run is not None:
        yield _failed(rules, state, run, record, why, abandoned=False)
    elif named and OPENS in record.value.partition(b"\n")[0][-HEADER_END:]:
        yield _unopened(rules, state, named[1].decode(), None, record, why)


def _failed(
    rules: DecisionConfig, state: PartitionState, run: Run, record: Incoming, why: str, *, abandoned: bool
) -> PublishAfter:
    return _fault(rules, state, run.run_id, run.admission, record, why, abandoned=abandoned)


def _unopened(
    rules: DecisionConfig, state: PartitionState, run_id: str, admission: int | None, record: Incoming, why: str
) -> PublishAfter:
    """A run was not opened: nothing will come of it from here. One that has ended keeps its end."""
    return _fault(rules, state, run_id, admission, record, why, abandoned=True)


def _fault(
    rules: DecisionConfig,
    state: PartitionState,
    run_id: str,
    admission: int | None,
    record: Incoming,
    why: str,
    *,
    abandoned: bool,
) -> PublishAfter:
    state.drop("record that met a bug")
    place = f"{record.topic}/{record.partition}, offset {record.offset}"
    message = FailRun(
        run_id=run_id,
        error_type=FAULT,
        message=f"a record of the run was given up ({place}): {why}"[:2_000],
        abandoned=abandoned,
        admission=admission,
    )
    return PublishAfter(Outgoing(rules.names.runs, run_id, encode(message)))
