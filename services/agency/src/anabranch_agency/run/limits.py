"""The owner of a limit that runs share: grants wishes in their order, and takes back what was granted. Pure.

What is held, and what waits, is a fold over one partition: no process can forget it, and none can count it twice.
A limit holds by the order of the log: at no offset is more granted than allowed. An address is kept like an open
run, from its first wish until nothing is held and nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Any

from anabranch.core.limit_addresses import ALL_PROJECTS
from anabranch.core.wire.delivered_message import DeliveredMessage
from anabranch.core.wire.messages import (
    CheckGrant,
    GrantAnswer,
    HoldLimit,
    LimitRule,
    Message,
    ReturnGrant,
    SetBreaker,
    Snapshot,
    WantGrant,
)
from anabranch_agency.run.breakers import (
    breaker_due,
    fails_when_open,
    forget_old,
    free_calls,
    note_return,
    set_breaker,
)
from anabranch_agency.run.limit_state import STEP_SECONDS, Holding, LimitAddress, Path, Place, Wish, path_of
from anabranch_agency.run.turn import Turn

LEASE_SECONDS = 60.0
"""A holder that nothing was heard of for this time is asked whether it still holds its grant."""
MAX_ASKED = 1_000
"""Holders and wishes that one turn asks about."""
MAX_NAMED = 3
"""Holders that an answer names."""


def decide_limit(turn: Turn, delivery: DeliveredMessage) -> None:
    """Apply a message about a limit."""
    message: Any = delivery.message
    _HANDLERS[type(message)](turn, message)


def _wanted(turn: Turn, message: WantGrant) -> None:
    address = _opened(turn, message)
    place = (*path_of(message.holder), message.number)
    if place in address.holders:
        _repeated(turn, address, place, message)
    elif message.held:
        _adopt(turn, address, place, message)
    elif place in address.wishes:
        address.wishes[place].seen = turn.at
        _answer_again(turn, address, place, address.wishes[place].granted)
    elif place in address.ended:
        turn.partition.drop("wish that has ended")
        _answer_again(turn, address, place, address.ended[place], message.holder.session_id)
    else:
        _want(turn, address, place, message)
        _settle(turn, address)
        _say_queued(turn, address, place)
        return
    _settle(turn, address)


def _repeated(turn: Turn, address: LimitAddress, place: Place, message: WantGrant) -> None:
    """A holder repeats a wish whose grant it has not read; or it still holds the grant."""
    holding = address.holders[place]
    holding.seen = turn.at
    if not message.held:
        _answer(turn, address, place, holding.session_id, holding.amount)


def _adopt(turn: Turn, address: LimitAddress, place: Place, message: WantGrant) -> None:
    """A holder repeats a grant that is not known: the records of the limit are lost. Or the grant was given back
    meanwhile, by an owner that was replaced: then it counts no more, also if the address is a new one."""
    if place in address.ended or address.held + message.held > message.rule.limit:
        turn.partition.drop("grant that was given back")
    else:
        address.hold(place, Holding(message.holder.session_id, message.held, message.since, turn.at))


def _want(turn: Turn, address: LimitAddress, place: Place, message: WantGrant) -> None:
    rule, address.opened = message.rule, address.opened + 1
    is_full = _is_full(address, place, message)
    if is_full and rule.on_full == "reject":
        address.remember(place, 0)
        because = f"the key {rule.name!r} is full: {_held_by(address)}"
        _answer(turn, address, place, message.holder.session_id, 0, "refused", because)
        return
    if rule.on_full == "replace_queued":
        _replace_queued(turn, address, place)
    address.add(
        place,
        Wish(
            session_id=message.holder.session_id,
            amount=message.amount,
            level=message.level,
            since=message.since,
            order=address.opened,
            seen=turn.at,
            rule=rule,
        ),
    )
    if is_full and rule.on_full == "cancel_running":
        _revoke(turn, address, place, message)


def _say_queued(turn: Turn, address: LimitAddress, place: Place) -> None:
    """Tell a run that it waits, and how many are ahead. Tasks are told nothing: `why` reads it here."""
    wish = address.wishes.get(place)
    if wish is not None and not place[2]:
        ahead = address.queue.index(wish.rank(place))
        _answer(turn, address, place, wish.session_id, ahead, "queued", _held_by(address))


def _is_full(address: LimitAddress, place: Place, message: WantGrant) -> bool:
    """True if the members have to wait for those of other holders."""
    is_shared = any(each[:5] != place[:5] for each in (*address.holders, *address.wishes))
    return is_shared and (bool(address.wishes) or address.held >= message.rule.limit)


def _replace_queued(turn: Turn, address: LimitAddress, place: Place) -> None:
    for other in [each for each in address.wishes if each[:5] != place[:5]]:
        wish = address.withdraw(other)
        assert wish is not None
        because = f"a later {_what(place)} took its turn for the key {address.rule.name!r}: {_shown(place)}"
        _answer(turn, address, other, wish.session_id, 0, "replaced", because)


def _revoke(turn: Turn, address: LimitAddress, place: Place, message: WantGrant) -> None:
    """Have those that have held places for longest cancelled, until the wish has room."""
    free = message.rule.limit - address.held
    free += sum(holding.amount for holding in address.holders.values() if holding.is_revoked)
    for other, holding in sorted(address.holders.items(), key=lambda each: each[1].since):
        if free >= message.amount:
            return
        if other[:5] == place[:5] or holding.is_revoked:
            continue
        holding.is_revoked = True
        free += holding.amount
        because = f"a later {_what(place)} took the key {address.rule.name!r}: {_shown(place)}"
        _answer(turn, address, other, holding.session_id, 0, "revoked", because)


def _returned(turn: Turn, message: ReturnGrant) -> None:
    address = turn.partition.limit(message.run_id)
    if address is None:
        turn.partition.drop("return of what is not held")
        return
    path = path_of(message.holder)
    for place in list(_places(address, path)) if message.number is None else [(*path, message.number)]:
        holding = address.holders.get(place)
        if holding is not None and address.rule.kind == "breaker":
            note_return(turn, address, holding, message)
        address.keep(place, message.left)
        if not message.left:
            address.withdraw(place)
            if place not in address.ended:  # the wish is on its way, published by another owner
                address.remember(place, 0)
    _settle(turn, address)


def _set_breaker(turn: Turn, message: SetBreaker) -> None:
    rule = LimitRule(kind="breaker", project=ALL_PROJECTS, name=message.name, limit=1, scope="agent")
    known = turn.partition.limit(message.run_id)
    address = _address(turn, message.run_id, rule if known is None else known.rule)
    set_breaker(turn, address, message)
    _settle(turn, address)


def _held_until(turn: Turn, message: HoldLimit) -> None:
    address = _opened(turn, message)
    address.blocked_until = max(address.blocked_until, message.until)
    _settle(turn, address)


def _places(address: LimitAddress, path: Path) -> Iterator[Place]:
    for place in (*address.holders, *address.wishes):
        if place[:5] == path:
            yield place


# --- grants --------------------------------------------------------------------------------------


def _settle(turn: Turn, address: LimitAddress) -> None:
    """Grant what is free, and set the timer; or drop the address."""
    _grant(turn, address)
    if address.is_empty(turn.at):
        turn.partition.close_address(address)
    else:
        turn.partition.arm_address(address, _due(address, turn.at))


def _grant(turn: Turn, address: LimitAddress) -> None:
    """Grant wishes in their order. None is overtaken: a large one would never have its turn."""
    while address.queue and turn.at >= address.blocked_until:
        place = address.queue[0][-1]
        wish = address.wishes[place]
        free = _free(turn, address, wish)
        if free <= 0 and fails_when_open(address, wish):
            address.withdraw(place)
            because = f"the breaker of the agent {address.rule.name!r} is open"
            _answer(turn, address, place, wish.session_id, 0, "refused", because)
            continue
        if free <= 0:
            return
        amount = min(wish.amount - wish.granted, free)
        wish.granted += amount
        if wish.rule.kind == "rate":
            address.tokens -= amount
            if wish.granted == wish.amount:
                address.withdraw(place)
        else:
            address.withdraw(place)
            address.ended.pop(place, None)
            address.hold(place, Holding(wish.session_id, amount, turn.at, turn.at))
        _answer(turn, address, place, wish.session_id, wish.granted)


def _free(turn: Turn, address: LimitAddress, wish: Wish) -> int:
    if wish.rule.kind == "breaker":
        return free_calls(turn, address, wish)
    if wish.rule.kind != "rate":
        return wish.rule.limit - address.held
    address.rule = wish.rule
    address.fill(turn.at)
    return int(address.tokens + 1e-9)


def _due(address: LimitAddress, now: float) -> float:
    """When the next thing is to be decided without a record."""
    due = address.check_at if address.holders or address.wishes else inf
    if address.blocked_until > now:
        due = min(due, address.blocked_until)
    elif (opens := breaker_due(address, now)) is not None:
        due = min(due, opens)
    elif address.rule.kind == "rate":
        missing = (1.0 if address.wishes else address.capacity) - address.tokens
        due = min(due, now + max(STEP_SECONDS, missing * address.rule.per / address.rule.limit))
    return due


# --- answers -------------------------------------------------------------------------------------


def _answer_again(
    turn: Turn, address: LimitAddress, place: Place, granted: int, session_id: str | None = None
) -> None:
    if granted:
        _answer(turn, address, place, session_id or address.wishes[place].session_id, granted)


def _answer(
    turn: Turn,
    address: LimitAddress,
    place: Place,
    session_id: str,
    amount: int,
    verdict: str = "granted",
    because: str = "",
) -> None:
    run_id, admission, group, task, iteration, number = place
    message = GrantAnswer(
        run_id=run_id,
        group=group,
        task=task,
        iteration=iteration,
        admission=admission,
        session_id=session_id,
        address=address.run_id,
        kind=address.rule.kind,
        number=number,
        amount=amount,
        verdict=verdict,
        because=because,
    )
    _send(turn, message, group, session_id)


def _send(turn: Turn, message: Any, group: str, session_id: str) -> None:
    names = turn.config.names
    # A run that holds a key has its owner on this topic.
    if group:
        turn.publish(names.groups, session_id, message)
    else:
        turn.publish(names.runs, message.run_id, message)


def _held_by(address: LimitAddress) -> str:
    held = f"{address.held} of {address.rule.limit} held by "
    named = list(dict.fromkeys(_shown(place) for place in address.holders))
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return held + ", ".join(named[:MAX_NAMED]) + more


def _shown(place: Place) -> str:
    return "/".join(part for part in (place[0], place[2], place[3]) if part)


def _what(place: Place) -> str:
    return "task" if place[2] else "run"


# --- time and snapshots --------------------------------------------------------------------------


def limit_due(turn: Turn, address: LimitAddress, now: float) -> None:
    """Grant what has become free, and ask about holders that are silent."""
    if address.due > now:
        return
    forget_old(address, now)
    if address.check_at <= now:
        address.check_at = now + LEASE_SECONDS
        _check(turn, address)
    _grant(turn, address)
    if address.is_empty(turn.at):
        turn.partition.close_address(address)
    else:
        turn.partition.arm_address(address, _due(address, turn.at), again=True)


def _check(turn: Turn, address: LimitAddress) -> None:
    """Ask each holder that has been silent for a lease. One whose session has ended without a return would hold
    its place for ever."""
    asked: dict[tuple[Path, str], list[int]] = {}
    everyone: list[tuple[Place, Holding | Wish]] = [*address.holders.items(), *address.wishes.items()]
    silent = [(place, each) for place, each in everyone if each.seen + LEASE_SECONDS <= turn.at + STEP_SECONDS]
    for place, each in silent[:MAX_ASKED]:
        each.seen = turn.at
        asked.setdefault((place[:5], each.session_id), []).append(place[5])
    for (path, session_id), numbers in asked.items():
        run_id, admission, group, task, iteration = path
        message = CheckGrant(
            run_id=run_id,
            group=group,
            task=task,
            iteration=iteration,
            admission=admission,
            session_id=session_id,
            address=address.run_id,
            numbers=tuple(numbers),
        )
        _send(turn, message, group, session_id)


def _opened(turn: Turn, message: WantGrant | HoldLimit) -> LimitAddress:
    return _address(turn, message.run_id, message.rule)


def _address(turn: Turn, run_id: str, rule: LimitRule) -> LimitAddress:
    known = turn.partition.limit(run_id)
    if known is None:
        known = LimitAddress(run_id, turn.offset, rule, turn.at + LEASE_SECONDS)
        turn.partition.open_address(known, turn.offset, turn.at)
    known.rule = rule
    return known


def restore_limit(turn: Turn, snapshot: Snapshot, address: LimitAddress, size: int) -> None:
    """Put a limit that was read from a snapshot in the place of what the state has of it."""
    turn.partition.open_address(address, snapshot.upto + 1, turn.at)
    trail = address.trail
    trail.last, trail.touched_at, trail.size = snapshot.upto, snapshot.touched_at, size
    turn.partition.arm_address(address, address.due, again=True)


_HANDLERS: dict[type[Message], Callable[[Turn, Any], None]] = {
    WantGrant: _wanted,
    ReturnGrant: _returned,
    HoldLimit: _held_until,
    SetBreaker: _set_breaker,
}
LIMIT_MESSAGES = frozenset(_HANDLERS)
"""The messages that are addressed to a limit."""
