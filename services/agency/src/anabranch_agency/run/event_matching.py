"""Gives the events of an address to the waits for them. Pure.

The owner of the address decides which wait gets an event, and evaluates the condition of the wait for that: an
event that a wait does not want has to be free for the next one, in the same turn. The owner of the session decides
whether the event still finds the wait open, and answers.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from anabranch.core.conditions import evaluate
from anabranch.core.errors import ConditionError
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import DeliverEvent, Json
from anabranch_agency.run.event_state import EventAddress, EventWait, KeptEvent, Place, WaitQueue
from anabranch_agency.run.turn import Turn


def offer_event(turn: Turn, address: EventAddress, event: KeptEvent) -> None:
    """Give an event to each run that waits for it, and to one of the waits that share events."""
    if event.expires <= turn.at:
        return
    if event.deliver == "one":
        _offer_to_one(turn, address, event)
        return
    queues = [queue for run_id, queue in address.every.items() if run_id not in event.given]
    _offer(turn, address, event, queues)


def _offer_to_one(turn: Turn, address: EventAddress, event: KeptEvent) -> None:
    """Give an event to the wait that opened first, of all that it is for."""
    data = _Data(event)
    found = [
        (queue, *first)
        for queue in (*address.every.values(), address.shared)
        if (first := _first(event, queue, data)) is not None
    ]
    if found:
        _give(turn, address, event, *min(found, key=lambda each: each[2].order))


def offer_to_run(turn: Turn, address: EventAddress, event: KeptEvent, run_id: str) -> None:
    """Give an event that a run did not take to another wait of it, or to another one of those that share."""
    if event.expires <= turn.at:
        return
    queue = address.every.get(run_id)
    _offer(turn, address, event, [] if queue is None else [queue])


def _offer(turn: Turn, address: EventAddress, event: KeptEvent, queues: Iterable[WaitQueue]) -> None:
    data = _Data(event)
    for queue in queues:
        if (found := _first(event, queue, data)) is not None:
            _give(turn, address, event, queue, *found)
    if not event.is_claimed and (found := _first(event, address.shared, data)) is not None:
        _give(turn, address, event, address.shared, *found)


def offer_kept(turn: Turn, address: EventAddress, queue: WaitQueue, place: Place, wait: EventWait) -> None:
    """Give the kept events to a wait that can take some, the oldest first."""
    scope = "" if wait.deliver == "one" else place[0]
    is_spent = True
    for event in address.from_cursor(scope):
        if wait.wanted <= 0:
            return
        if event.expires > turn.at and _is_for(event, place, wait, _Data(event)):
            _give(turn, address, event, queue, place, wait)
        # All events up to here are given, so that the next wait need not look at them.
        is_spent = is_spent and (event.is_claimed if scope == "" else place[0] in event.given)
        if is_spent:
            address.cursors[scope] = event.number


def deliver_again(turn: Turn, address: EventAddress, place: Place, wait: EventWait) -> None:
    """Publish the events again that are under way to a wait: its owner asks for them."""
    for number in wait.flights:
        if (event := address.events.get(number)) is not None:
            _deliver(turn, address, event, place, wait)


class _Data:
    """The data of an event, parsed for the first condition that reads it.

    A condition names a field of the data as `amount`, `data.amount` or `event.data.amount`, and the id of the
    event as `event.id`.
    """

    def __init__(self, event: KeptEvent) -> None:
        self._event = event
        self._scope: dict[str, Json] | None = None

    def holds(self, when: Json) -> bool:
        """Whether a condition is true for the event. One that cannot be evaluated for it is not: the event is none
        of those that the wait is for."""
        if when is None:
            return True
        if self._scope is None:
            found = orjson.loads(self._event.data)
            event = {"id": self._event.event_id, "data": found}
            self._scope = {"event": event, "data": found, **(found if isinstance(found, dict) else {})}
        try:
            return evaluate(when, self._scope)
        except ConditionError:
            return False


def _first(event: KeptEvent, queue: WaitQueue, data: _Data) -> tuple[Place, EventWait] | None:
    """The wait that opened first, of those in a queue that the event is for."""
    return next((found for found in queue.hungry.items() if _is_for(event, *found, data)), None)


def _is_for(event: KeptEvent, place: Place, wait: EventWait, data: _Data) -> bool:
    if place[0] in event.given or (event.is_claimed and "one" in (wait.deliver, event.deliver)):
        return False
    return data.holds(wait.when)


def _give(
    turn: Turn, address: EventAddress, event: KeptEvent, queue: WaitQueue, place: Place, wait: EventWait
) -> None:
    event.given.add(place[0])
    event.flights.add(place)
    event.is_claimed = event.is_claimed or "one" in (wait.deliver, event.deliver)
    wait.flights.append(event.number)
    wait.wanted -= 1
    if wait.wanted <= 0:
        queue.fill(place)
    _deliver(turn, address, event, place, wait)


def _deliver(turn: Turn, address: EventAddress, event: KeptEvent, place: Place, wait: EventWait) -> None:
    run_id, group, task, iteration, index = place
    message = DeliverEvent(
        run_id=run_id,
        group=group,
        task=task,
        index=index,
        iteration=iteration,
        admission=wait.admission,
        session_id=wait.session_id,
        address=address.run_id,
        number=event.number,
        event_id=event.event_id,
        deliver=wait.deliver,
    )
    turn.publish_encoded(turn.config.names.groups, wait.session_id, encode(message, [event.data]))
