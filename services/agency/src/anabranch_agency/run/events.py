"""The owner of events: publications and waits for them, folded per address. Pure.

An address is kept like an open run, from its first event or wait until it has neither. An event that was published
before its wait, two events at once, and an event that comes in the second in which a wait ends have the same
outcome on each replay, because one partition has all of them in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from anabranch.core.errors import Code
from anabranch.core.event_addresses import ID_SECONDS
from anabranch.core.json_documents import dumps
from anabranch.core.wire.delivered_message import DeliveredMessage
from anabranch.core.wire.messages import (
    AnswerEvent,
    CloseEventWait,
    EventWaiter,
    Message,
    OpenEventWait,
    PublishEvent,
    Snapshot,
    Spans,
)
from anabranch.runtime.ownership.effects import StorePut
from anabranch_agency.run.event_matching import deliver_again, offer_event, offer_kept, offer_to_run
from anabranch_agency.run.event_state import (
    MAX_KEPT,
    MAX_KEPT_BYTES,
    PURGE_SECONDS,
    EventAddress,
    EventWait,
    KeptEvent,
    Place,
)
from anabranch_agency.run.turn import DeadLetterOriginal, Turn


def decide_event(turn: Turn, delivery: DeliveredMessage) -> None:
    """Apply a message about an address."""
    message: Any = delivery.message
    _HANDLERS[type(message)](turn, message, delivery.segments)
    address = turn.partition.addresses.get(message.run_id)
    if address is not None and address.is_empty:
        turn.partition.close_address(address)


def _published(turn: Turn, message: PublishEvent, segments: tuple[bytes, ...]) -> None:
    partition, data = turn.partition, segments[0] if segments else b"null"
    if partition.is_known_event(message.run_id, message.event_id, turn.position, turn.at):
        partition.drop("event published before")
        return
    expires = turn.at + message.ttl
    known = partition.addresses.get(message.run_id)
    if known is not None and turn.position in known.events:
        partition.drop("event published before")
        return
    if known is not None and not _has_room(turn, known, data):
        reason = (
            f"the events {message.name!r} of the key {message.key!r} are {MAX_KEPT:,}, or have {MAX_KEPT_BYTES:,} "
            "bytes, that no time has ended yet: publish with a shorter `ttl`"
        )
        effect = DeadLetterOriginal(message.origin, str(Code.TOO_LARGE), reason, message.project)
        turn.effects.append(effect)
        return
    _note_id(turn, message)
    address = _opened(turn, message.run_id)
    event = KeptEvent(turn.position, message.event_id, turn.at, expires, data, message.deliver)
    address.add(event)
    partition.arm_address(address, expires)
    offer_event(turn, address, event)


def _note_id(turn: Turn, message: PublishEvent) -> None:
    turn.partition.note_event(message.run_id, message.event_id, turn.position, turn.at)
    key = turn.config.names.event_seen(message.run_id, message.event_id)
    turn.effects.append(StorePut(message.run_id, key, dumps([turn.position, turn.at]), ID_SECONDS))


def _has_room(turn: Turn, address: EventAddress, data: bytes) -> bool:
    if len(address.events) < MAX_KEPT and address.bytes + len(data) <= MAX_KEPT_BYTES:
        return True
    _purge(address, turn.at)
    return len(address.events) < MAX_KEPT and address.bytes + len(data) <= MAX_KEPT_BYTES


def _opened(turn: Turn, run_id: str) -> EventAddress:
    known = turn.partition.addresses.get(run_id)
    if known is None:
        known = EventAddress(run_id, turn.offset)
        turn.partition.open_address(known, turn.offset, turn.at)
    return known


# --- waits ---------------------------------------------------------------------------------------


def _wait_opened(turn: Turn, message: OpenEventWait, segments: tuple[bytes, ...]) -> None:
    waiter = message.waiter
    places = [
        place
        for place in _places(waiter, message.spans)
        if not turn.partition.is_ended_wait(message.run_id, place, waiter.admission)
    ]
    if not places:
        turn.partition.drop("event wait that has ended")
        return
    address = _opened(turn, message.run_id)
    for place in places:
        found = address.find(place)
        if found is not None and found[1].admission == waiter.admission:
            deliver_again(turn, address, place, found[1])
            continue
        if address.ended.get(place) == waiter.admission:
            turn.partition.drop("event wait that has ended")
            continue
        address.remove(place)
        address.opened += 1
        wait = EventWait(
            waiter.session_id,
            waiter.admission,
            address.opened,
            message.collect,
            message.until,
            message.when,
            message.deliver,
        )
        queue = address.queue(waiter.run_id, message.deliver)
        queue.hungry[place] = wait
        offer_kept(turn, address, queue, place, wait)
    turn.partition.arm_address(address, message.until)


def _wait_closed(turn: Turn, message: CloseEventWait, segments: tuple[bytes, ...]) -> None:
    address = turn.partition.addresses.get(message.run_id)
    if address is None:
        turn.partition.drop("end of an event wait that is not open")
        return
    # What is under way to the wait stays so until its answer, which says whether the wait had taken it.
    for place in _places(message.waiter, message.spans):
        address.end(place, message.waiter.admission)


def _answered(turn: Turn, message: AnswerEvent, segments: tuple[bytes, ...]) -> None:
    address = turn.partition.addresses.get(message.run_id)
    if address is None:
        turn.partition.drop("answer about an event that is not kept")
        return
    waiter = message.waiter
    place: Place = (waiter.run_id, waiter.group, waiter.task, waiter.iteration, message.index)
    event = address.events.get(message.number)
    was_flying = event is not None and place in event.flights
    if event is not None:
        event.flights.discard(place)
        if message.taken:
            event.given.add(waiter.run_id)
            event.is_claimed = event.is_claimed or "one" in (message.deliver, event.deliver)
    found = address.find(place)
    if found is not None:
        queue, wait = found
        if message.number in wait.flights:
            wait.flights.remove(message.number)
            wait.wanted += not message.taken
        if wait.wanted > 0:
            queue.starve(place)
    if not message.is_open:
        address.end(place, waiter.admission)
    if event is None or not was_flying or message.taken:
        return
    # A wait that is open has refused what it was given: so would the run.
    if not message.is_open:
        event.given.discard(waiter.run_id)
        address.give_back(event, waiter.run_id)
    if "one" in (message.deliver, event.deliver):
        event.is_claimed = False
        address.give_back(event, "")
    if event.deliver == "one":
        offer_event(turn, address, event)
    else:
        offer_to_run(turn, address, event, waiter.run_id)
    if found is not None and message.is_open:
        offer_kept(turn, address, found[0], place, found[1])


def _places(waiter: EventWaiter, spans: Spans) -> Iterator[Place]:
    for start, stop in spans:
        for index in range(start, stop):
            yield (waiter.run_id, waiter.group, waiter.task, waiter.iteration, index)


# --- time and snapshots --------------------------------------------------------------------------


def address_due(turn: Turn, address: EventAddress, now: float) -> None:
    """Remove what has expired from an address."""
    if address.due > now:
        return
    _purge(address, now)
    partition = turn.partition
    if address.is_empty:
        partition.close_address(address)
        return
    ends = [event.expires for event in address.events.values()]
    ends += [wait.until for _, wait in address.waits()]
    partition.arm_address(address, max(min(ends), now + PURGE_SECONDS), again=True)


def _purge(address: EventAddress, now: float) -> None:
    # Of runs that may have ended long ago; those of others are found again.
    address.cursors.clear()
    for event in list(address.events.values()):
        if event.expires <= now:
            address.drop(event)
    for place, wait in list(address.waits()):
        if wait.until <= now:
            address.remove(place)


def restore_address(turn: Turn, snapshot: Snapshot, address: EventAddress, size: int) -> None:
    """Put an address that was read from a snapshot in the place of what the state has of it."""
    turn.partition.open_address(address, snapshot.upto + 1, turn.at)
    trail = address.trail
    trail.last, trail.touched_at, trail.size = snapshot.upto, snapshot.touched_at, size
    turn.partition.arm_address(address, address.due, again=True)


_HANDLERS: dict[type[Message], Callable[[Turn, Any, tuple[bytes, ...]], None]] = {
    PublishEvent: _published,
    OpenEventWait: _wait_opened,
    CloseEventWait: _wait_closed,
    AnswerEvent: _answered,
}
