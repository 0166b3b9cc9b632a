"""What follows where a record of a run cannot be decided about: the run fails, with that as the reason. Pure.

A record that is dropped would leave its run waiting for ever. So the run's owner is told, and stops the run. Where
even that stop fails here, the state of the run is given up: nothing more is expected of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from anabranch.core.codec import encode
from anabranch.core.messages import FailRun, Message, StopRun
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.effects import Effect, News
from anabranch_taskgroup.known_runs import abandon
from anabranch_taskgroup.state import Partition, Run
from anabranch_taskgroup.turn import Rules, Turn

FAULT = "InternalError"
HEADER_START = 4_096
_RUN_ID = re.compile(rb'"run_id":"([0-9A-Za-z._~-]+)"')


def give_up(rules: Rules, state: Partition, message: Message, record: Incoming, why: str) -> Iterator[Effect]:
    """The run of a message that could not be decided about fails; of a stop, at once."""
    run = state.runs.get(getattr(message, "run_id", ""))
    if run is None:
        return
    is_last_resort = isinstance(message, StopRun)
    yield _failed(rules, state, run, record, why, abandoned=is_last_resort)
    if is_last_resort:
        turn = Turn(rules, state, record.offset, record.timestamp)
        abandon(turn, run)
        yield from turn.effects


def fail_named(rules: Rules, state: Partition, record: Incoming, why: str) -> Iterator[Effect]:
    """The run fails that a record names which nobody decodes, if it is open here."""
    named = _RUN_ID.search(record.value[:HEADER_START])
    run = state.runs.get(named[1].decode()) if named else None
    if run is not None:
        yield _failed(rules, state, run, record, why, abandoned=False)


def _failed(rules: Rules, state: Partition, run: Run, record: Incoming, why: str, *, abandoned: bool) -> News:
    state.drop("record that met a bug")
    place = f"{record.topic}/{record.partition}, offset {record.offset}"
    message = FailRun(
        run_id=run.run_id,
        error_type=FAULT,
        message=f"a record of the run was given up ({place}): {why}"[:2_000],
        abandoned=abandoned,
        admission=run.admission,
    )
    return News(Outgoing(rules.names.runs, run.run_id, encode(message)))
