"""Fails the run of a record that cannot be decided about. Pure.

If the record were only dropped, its run might wait for ever. So the run's owner gets a `FailRun`, and stops the
run. If deciding about that stop fails as well, the run is abandoned here, and its owner expects nothing more.
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
"""Bytes of a record's header that are searched: the run's id is among its first fields, the type is the last
one."""
OPENS = b'"type":"open_run"'
"""Part of the header of a record that opens a run."""
_RUN_ID = re.compile(rb'"run_id":"([0-9A-Za-z._~-]+)"')


def fail_run(
    config: DecisionConfig, state: PartitionState, message: Message, record: Incoming, why: str
) -> Iterator[Effect]:
    """Fail the run of a message that could not be decided about; abandon it where the message is a stop."""
    run = state.runs.get(getattr(message, "run_id", ""))
    if run is None:
        if isinstance(message, OpenRun):
            yield _unopened(config, state, message.run_id, message.admission, record, why)
        return
    is_last_resort = isinstance(message, StopRun)
    yield _failed(config, state, run, record, why, abandoned=is_last_resort)
    if is_last_resort:
        turn = Turn(config, state, record.offset, record.timestamp)
        abandon(turn, run)
        yield from turn.effects


def fail_named(config: DecisionConfig, state: PartitionState, record: Incoming, why: str) -> Iterator[Effect]:
    """Fail the run that an undecodable record names, if the run is open here or the record would open it."""
    # By its bytes: decoding the record may be what fails, or what kills the process.
    named = _RUN_ID.search(record.value[:HEADER_START])
    run = state.runs.get(named[1].decode()) if named else None
    if run is not None:
        yield _failed(config, state, run, record, why, abandoned=False)
    elif named and OPENS in record.value.partition(b"\n")[0][-HEADER_END:]:
        yield _unopened(config, state, named[1].decode(), None, record, why)


def _failed(
    config: DecisionConfig, state: PartitionState, run: Run, record: Incoming, why: str, *, abandoned: bool
) -> PublishAfter:
    return _fault(config, state, run.run_id, run.admission, record, why, abandoned=abandoned)


def _unopened(
    config: DecisionConfig, state: PartitionState, run_id: str, admission: int | None, record: Incoming, why: str
) -> PublishAfter:
    """Answer that a run was not opened, so no group of it will be reported. The answer is dropped if the run has
    ended."""
    return _fault(config, state, run_id, admission, record, why, abandoned=True)


def _fault(
    config: DecisionConfig,
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
        message=f"a record of the run could not be processed ({place}): {why}"[:2_000],
        abandoned=abandoned,
        admission=admission,
    )
    return PublishAfter(Outgoing(config.names.runs, run_id, encode(message)))
