"""Firings of a schedule: which become runs, wait for an earlier one, or are missed. Pure.

A firing is under way from the decision to submit it until its run has ended, also while that is paused or undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from anabranch.core.json_documents import dumps
from anabranch.core.schedules.views import VIEW_SECONDS
from anabranch.core.telemetry import SCHEDULE_FIRED, SCHEDULE_MISSED
from anabranch.core.timestamps import utc_text
from anabranch.core.wire.messages import ControlRun, Json
from anabranch.core.wire.schedule_messages import FiringSource
from anabranch.runtime.ownership.effects import Count, StorePut
from anabranch_agency.run.schedule_state import (
    MAX_WAITING,
    Firing,
    MissedReason,
    PastFiring,
    ScheduleState,
)
from anabranch_agency.run.turn import Turn

MAX_BACKFILLED = 100
"""Firings of a backfill that are submitted in one turn."""


@dataclass(frozen=True, slots=True)
class SubmitFiring:
    """Validate the request of a firing, and submit or reject it."""

    address: str
    schedule_id: str
    project: str
    at: float
    source: FiringSource
    request: dict[str, Json] | None
    definition: str | None
    input: dict[str, Json]


@dataclass(frozen=True, slots=True)
class ListSchedule:
    """Add a schedule to the list of all, or remove it."""

    address: str
    is_listed: bool


def offer(turn: Turn, state: ScheduleState, firing: Firing) -> None:
    """Decide about a firing whose time has come."""
    schedule = state.rules.schedule
    if firing.run_id in state.open:
        return
    if firing.source == "clock" and schedule.limit is not None and state.fired >= schedule.limit:
        miss(turn, state, firing, "limit")
    elif firing.source == "clock" and state.paused:
        miss(turn, state, firing, "paused")
    elif not state.open or schedule.overlap == "allow":
        start(turn, state, firing)
    elif schedule.overlap == "skip":
        miss(turn, state, firing, "overlap")
    elif schedule.overlap == "cancel_other":
        _cancel_others(turn, state)
        state.waiting.append(firing)
    elif len(state.waiting) >= (1 if schedule.overlap == "buffer_one" else MAX_WAITING):
        miss(turn, state, firing, "buffer")
    else:
        state.waiting.append(firing)


def _cancel_others(turn: Turn, state: ScheduleState) -> None:
    drop_waiting(turn, state, "overlap")
    for each in state.open.values():
        reason = f"the schedule {state.id} fires again"
        control = ControlRun(run_id=each.run_id, action="cancel", by=f"schedule {state.id}", reason=reason)
        turn.publish(turn.config.names.runs, each.run_id, control)


def start(turn: Turn, state: ScheduleState, firing: Firing) -> None:
    """Submit the run of a firing."""
    schedule = state.rules.schedule
    state.open[firing.run_id] = firing
    state.fired += firing.source == "clock"
    submit = SubmitFiring(
        state.run_id,
        state.id,
        state.project,
        firing.at,
        firing.source,
        schedule.request,
        schedule.definition,
        schedule.input,
    )
    turn.effects.append(submit)
    turn.effects.append(Count(SCHEDULE_FIRED))
    turn.address_event(state.run_id, state.id, "schedule.fired", **_about(state, firing), firing=firing.run_id)


def miss(
    turn: Turn, state: ScheduleState, firing: Firing, reason: MissedReason, until: float | None = None
) -> None:
    """Report a firing that does not become a run, or with `until` each up to that time."""
    more = {} if until is None else {"until": utc_text(until)}
    state.missed[reason] = state.missed.get(reason, 0) + 1
    state.remember(PastFiring(firing.at, "missed", firing.source, ended_at=turn.at, reason=reason))
    turn.effects.append(Count(SCHEDULE_MISSED, 1, (("reason", reason),)))
    turn.address_event(state.run_id, state.id, "schedule.missed", **_about(state, firing), reason=reason, **more)


def _about(state: ScheduleState, firing: Firing) -> dict[str, Json]:
    return {"schedule": state.id, "project": state.project, "at": utc_text(firing.at), "source": firing.source}


def drop_waiting(turn: Turn, state: ScheduleState, reason: MissedReason) -> None:
    """Give up the firings that wait."""
    dropped, state.waiting = state.waiting, []
    for each in dropped:
        miss(turn, state, each, reason)


def go_on(turn: Turn, state: ScheduleState) -> bool:
    """Submit what waits for the end of earlier firings. True if a backfill has more for the next turn."""
    if not state.open and state.waiting:
        start(turn, state, state.waiting.pop(0))
    for _ in range(MAX_BACKFILLED):
        backfill = next(iter(state.backfills), None)
        if backfill is None or (backfill.overlap != "allow" and (state.open or state.waiting)):
            return False
        at = state.rules.rule.after(backfill.after)
        if at is None or at > backfill.end:
            state.backfills.pop(0)
            continue
        backfill.after = at
        firing = state.firing(at, "backfill")
        if not state.has_run(firing.run_id):
            start(turn, state, firing)
    return bool(state.backfills)


def store_view(turn: Turn, state: ScheduleState) -> None:
    """Store the view of a schedule for its readers, at least until it is due, and list it.

    It is listed each time, so that a store that lost the list has it again.
    """
    key = turn.config.names.schedule(state.run_id)
    waits = state.due - turn.at if turn.at < state.due < inf else 0.0
    turn.effects.append(StorePut(state.run_id, key, dumps(state.view()), VIEW_SECONDS + waits))
    turn.effects.append(ListSchedule(state.run_id, is_listed=True))
