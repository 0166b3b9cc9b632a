"""The owner of a schedule: control records, timers, and the answers of its runs, folded per address. Pure.

The time is that of the record. A firing has the request id `<schedule>@<time>`, so what is repeated is one run: a
record, a decision by another owner, a backfill over the same time.
"""

from __future__ import annotations

from math import inf

from anabranch.core.errors import Code
from anabranch.core.json_documents import dumps
from anabranch.core.schedules.models import Schedule
from anabranch.core.timestamps import utc_text
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.messages import ControlSchedule, FiringEnded, FiringStarted, Snapshot
from anabranch.runtime.ownership.effects import StorePut
from anabranch_agency.run.firings import ListSchedule, drop_waiting, go_on, miss, offer, store_view
from anabranch_agency.run.schedule_state import Backfill, PastFiring, ScheduleState
from anabranch_agency.run.turn import DeadLetterOriginal, Turn

MAX_DUE = 1_000
"""Logical times that one turn decides about."""
ON_TIME_SECONDS = 60.0
"""Seconds by which a firing may be late, whatever `catch_up` says: an owner was away for a moment."""
MAX_BACKFILLS = 100
GONE_SECONDS = 60.0
_TICK = 0.001
_TIMING = ("cron", "every", "phase", "at", "except_", "timezone", "from_", "to")
_FAILED = ("failed", "timed_out", "rejected")


def control_schedule(turn: Turn, message: ControlSchedule) -> None:
    """Apply a control record for a schedule."""
    known = turn.partition.schedules.get(message.run_id)
    if known is not None and known.project != message.project:
        _refuse(turn, message, f"the schedule {message.id!r} belongs to another project: take another id")
        return
    if known is not None and not known.observes(message.origin):
        turn.partition.drop("control record of a schedule applied before")
        return
    if message.action == "put":
        state = _put(turn, message, known)
    elif known is None:
        _refuse(turn, message, f"there is no schedule {message.id!r}")
        return
    elif message.action == "delete":
        _delete(turn, known)
        return
    else:
        state = known
        _act(turn, message, state)
    _settle(turn, state)


def _refuse(turn: Turn, message: ControlSchedule, reason: str) -> None:
    turn.effects.append(DeadLetterOriginal(message.origin, str(Code.SCHEMA), reason, message.project))


def _put(turn: Turn, message: ControlSchedule, known: ScheduleState | None) -> ScheduleState:
    document = message.schedule or {}
    if known is None:
        state = ScheduleState(message.run_id, turn.offset, message.id, message.project, document)
        state.observes(message.origin)
        state.paused = state.rules.schedule.paused
        state.fired = message.fired
        state.next_at = state.rules.rule.after(turn.at if message.since is None else message.since)
        turn.partition.open_address(state, turn.offset, turn.at)
        return state
    before = known.rules.schedule
    known.document, known.parsed = document, None
    now = known.rules.schedule
    # The same times again do not lose a firing that is due.
    if not _has_same_times(before, now):
        known.next_at = known.rules.rule.after(turn.at)
    if before.limit != now.limit and known.next_at is None:
        known.next_at = known.rules.rule.after(turn.at)
    if before.paused != now.paused:
        _pause(turn, known, now.paused, message.by, message.reason or "the schedule was put")
    return known


def _has_same_times(before: Schedule, now: Schedule) -> bool:
    return all(getattr(before, name) == getattr(now, name) for name in _TIMING)


def _delete(turn: Turn, state: ScheduleState) -> None:
    """Its runs go on."""
    turn.partition.close_address(state)
    key = turn.config.names.schedule(state.run_id)
    turn.effects.append(StorePut(state.run_id, key, dumps(None), GONE_SECONDS))
    turn.effects.append(ListSchedule(state.run_id, is_listed=False))


def _act(turn: Turn, message: ControlSchedule, state: ScheduleState) -> None:
    if message.action in ("pause", "resume"):
        _pause(turn, state, message.action == "pause", message.by, message.reason)
    elif message.action == "trigger":
        offer(turn, state, state.firing(round(turn.at, 3), "trigger"))
    elif len(state.backfills) >= MAX_BACKFILLS:
        _refuse(turn, message, f"the schedule {state.id!r} has {MAX_BACKFILLS} backfills that have not ended")
    else:
        end = min(message.end, turn.at)
        state.backfills.append(Backfill(message.start - _TICK, end, message.overlap))


def _pause(turn: Turn, state: ScheduleState, paused: bool, by: str, reason: str) -> None:
    if state.paused == paused:
        return
    state.paused = paused
    said = {"by": by or None, "reason": reason or None}
    state.paused_by = {**said, "at": rfc3339(turn.at)} if paused else None
    kind = "schedule.paused" if paused else "schedule.resumed"
    turn.address_event(state.run_id, state.id, kind, schedule=state.id, project=state.project, **said)
    if paused:
        drop_waiting(turn, state, "paused")


def moved(state: ScheduleState) -> ControlSchedule:
    """The record that puts a schedule into a topic that was created again."""
    since = None if state.next_at is None else state.next_at - _TICK
    document = {**state.document, "paused": state.paused}
    return ControlSchedule(
        run_id=state.run_id,
        id=state.id,
        project=state.project,
        action="put",
        schedule=document,
        fired=state.fired,
        since=since,
    )


# --- time ----------------------------------------------------------------------------------------


def schedule_due(turn: Turn, state: ScheduleState, now: float) -> None:
    """Fire what is due at `now`."""
    if state.due > now:
        return
    _fire_due(turn, state, now)
    _settle(turn, state)


def _fire_due(turn: Turn, state: ScheduleState, now: float) -> None:
    parsed = state.rules
    due: list[float] = []
    at = state.next_at
    while at is not None and len(due) < MAX_DUE and state.starts_at(at) <= now:
        due.append(at)
        at = parsed.rule.after(at)
    has_more = at is not None and state.starts_at(at) <= now
    catch_up = parsed.schedule.catch_up
    oldest = now - max(catch_up.window, ON_TIME_SECONDS)
    if has_more and due[-1] < oldest:
        # Too many to look at each: all before the window are missed.
        miss(turn, state, state.firing(due[0], "clock"), "window", until=oldest)
        state.next_at = parsed.rule.after(oldest - _TICK)
        return
    state.next_at = at
    for number, each in enumerate(due):
        firing, late = state.firing(each, "clock"), now - state.starts_at(each)
        is_last = number == len(due) - 1 and not has_more
        is_caught_up = catch_up.runs == "all" or (catch_up.runs == "latest" and is_last)
        if late <= ON_TIME_SECONDS or (late <= catch_up.window and is_caught_up):
            offer(turn, state, firing)
        else:
            miss(turn, state, firing, "window")
        if _is_exhausted(state) and state.missed.get("limit"):
            break


def _is_exhausted(state: ScheduleState) -> bool:
    limit = state.rules.schedule.limit
    return limit is not None and state.fired >= limit


def _settle(turn: Turn, state: ScheduleState) -> None:
    """Submit what waits, set the timer, and show the schedule as it is now."""
    has_more = go_on(turn, state)
    if _is_exhausted(state) and state.missed.get("limit"):
        state.next_at = None
    due = inf if state.next_at is None else state.starts_at(state.next_at)
    _arm(turn, state, min(due, turn.at) if has_more else due)
    store_view(turn, state)


# --- answers -------------------------------------------------------------------------------------


def firing_started(turn: Turn, message: FiringStarted) -> None:
    """The run of a firing was admitted."""
    state = turn.partition.schedules.get(message.run_id)
    firing = state.open.get(message.firing) if state is not None else None
    if state is None or firing is None:
        turn.partition.drop("start of a firing that is not open")
        return
    firing.started = True


def firing_ended(turn: Turn, message: FiringEnded) -> None:
    """The run of a firing has ended: the next one may start."""
    state = turn.partition.schedules.get(message.run_id)
    firing = state.open.pop(message.firing, None) if state is not None else None
    if state is None or firing is None:
        turn.partition.drop("end of a firing that is not open")
        return
    reason = message.message or None
    past = PastFiring(firing.at, message.status, firing.source, firing.run_id, turn.at, reason)
    state.remember(past)
    if message.status in _FAILED and state.rules.schedule.pause_on_failure:
        why = f"the run of {utc_text(firing.at)} {message.status.replace('_', ' ')}"
        _pause(turn, state, True, f"schedule {state.id}", why)
    _settle(turn, state)


def restore_schedule(turn: Turn, snapshot: Snapshot, state: ScheduleState, size: int) -> None:
    """Put a schedule that was read from a snapshot in the place of what the state has of it."""
    turn.partition.open_address(state, snapshot.upto + 1, turn.at)
    trail = state.trail
    trail.last, trail.touched_at, trail.size = snapshot.upto, snapshot.touched_at, size
    _arm(turn, state, state.due)


def _arm(turn: Turn, state: ScheduleState, at: float) -> None:
    state.due = at
    if at < inf:
        turn.partition.arm_address(state, at, again=True)
