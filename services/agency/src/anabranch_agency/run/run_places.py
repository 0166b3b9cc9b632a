"""The place of a run under a concurrency key, which it holds from its start to its end. Pure.

A run with a key is admitted at once, and starts once the owner of the key has granted it a place. Until then it is
held as a run that starts later is. It gives its place back in the turn in which it ends.
"""

from __future__ import annotations

from anabranch.core.limit_addresses import limit_address
from anabranch.core.request.limits import rendered_key
from anabranch.core.wire.messages import (
    CheckGrant,
    GrantAnswer,
    GrantHolder,
    LimitRule,
    ReturnGrant,
    SubmitRun,
    WantGrant,
)
from anabranch_agency.run.held_start import begin, hold, note_queued
from anabranch_agency.run.known_plans import PlannedRequest
from anabranch_agency.run.opening import ids_of
from anabranch_agency.run.state import Run, RunPlace
from anabranch_agency.run.turn import Turn

NEVER = 253_402_300_799.0
"""The last second of the year 9999, in seconds since the epoch: JSON has no infinity."""
MAX_SHOWN_NAME = 500
"""Characters of a key that are shown. The whole of it makes the address."""


def start_or_queue(turn: Turn, run: Run) -> None:
    """The time of a run that was held has come: start it, or have it wait for its place."""
    assert run.held is not None
    planned = turn.config.plans.of(run.held.submit)
    if planned.plan.concurrency is None:
        begin(turn, run)
    else:
        run.held.until = NEVER
        turn.partition.arm(run)
        _want(turn, run, run.held.submit, planned)


def queue_start(turn: Turn, run: Run, submit: SubmitRun, planned: PlannedRequest) -> None:
    """Admit a run that starts once it has a place."""
    hold(run, submit, NEVER)
    _want(turn, run, submit, planned)


def _want(turn: Turn, run: Run, submit: SubmitRun, planned: PlannedRequest) -> None:
    places = planned.plan.concurrency
    assert places is not None
    name = rendered_key(places.key, planned.free.context, **ids_of(run))
    project = run.tombstone.project
    rule = LimitRule(
        kind="run_concurrency",
        project=project,
        name=name[:MAX_SHOWN_NAME],
        limit=places.limit,
        on_full=places.on_full,
    )
    run.place = RunPlace(limit_address(project, "run_concurrency", name), rule, turn.at)
    _publish_wish(turn, run, run.place)


def _publish_wish(turn: Turn, run: Run, place: RunPlace) -> None:
    message = WantGrant(
        run_id=place.address,
        rule=place.rule,
        holder=_holder(run),
        number=0,
        amount=1,
        since=place.since,
        held=int(place.is_held),
    )
    turn.publish(turn.config.names.runs, place.address, message)


def _holder(run: Run) -> GrantHolder:
    return GrantHolder(run_id=run.run_id, session_id=run.session_id, admission=run.admission)


def place_granted(turn: Turn, run: Run, message: GrantAnswer) -> None:
    """The owner of the key has granted a place, or says how many runs are ahead."""
    place = run.place
    if place is None or place.is_held or run.held is None:
        turn.partition.drop("grant known before")
    elif message.verdict == "queued":
        note_queued(turn, run, place.rule.name, message.amount, message.because)
    else:
        place.is_held = True
        begin(turn, run)


def return_unused(turn: Turn, message: GrantAnswer | CheckGrant) -> None:
    """Give back what a run that has ended, or has another place, was granted."""
    holder = GrantHolder(run_id=message.run_id, session_id=message.session_id, admission=message.admission or 0)
    turn.publish(turn.config.names.runs, message.address, ReturnGrant(run_id=message.address, holder=holder))


def place_checked(turn: Turn, run: Run | None, message: CheckGrant) -> None:
    """Answer the owner of a key that asks whether a run still holds its place, or waits for it."""
    if run is None or run.place is None or run.place.address != message.address:
        return_unused(turn, message)
    else:
        _publish_wish(turn, run, run.place)


def give_place_back(turn: Turn, run: Run, place: RunPlace) -> None:
    """A run ends: it gives back its place, or its wish for one."""
    turn.publish(turn.config.names.runs, place.address, ReturnGrant(run_id=place.address, holder=_holder(run)))
