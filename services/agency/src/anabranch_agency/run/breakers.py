"""Opens and closes the breaker of an agent by the outcomes of its attempts. Pure.

Its owner grants all wishes while it is closed, none while it is open, and a few while it is half open. Workers
learn that it has opened as of a pause: a message, and a flag in the store that counts.
"""

from __future__ import annotations

from typing import Any

from anabranch.core.limit_addresses import ALL_PROJECTS, paused_agent
from anabranch.core.request.limits import Breaker
from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.messages import ReturnGrant, SetBreaker
from anabranch.runtime.ownership.effects import Notify, StorePut
from anabranch_agency.run.limit_state import BreakerState, Holding, LimitAddress, Wish
from anabranch_agency.run.turn import Turn

BY_HAND_SECONDS = 10 * 365 * 86_400.0
"""A breaker that a person has opened stays so until a person closes it."""
FLAG_SECONDS = 3_600.0
"""Time to live of the flag for workers, at most: without it they ask again, and wait."""
GONE_SECONDS = 0.05
"""Time to live of a flag that is taken back."""


def free_calls(turn: Turn, address: LimitAddress, wish: Wish) -> int:
    """How many members may call the agent now."""
    state = state_of(address)
    rule = address.rule.breaker
    if state.phase == "open" and turn.at >= state.until:
        state.phase, state.outcomes = "half_open", []
        _tell_workers(turn, address, is_open=False)
    if state.phase == "open":
        return 0
    if state.phase == "half_open" and rule is not None:
        return rule.probes - address.held
    return wish.amount


def fails_when_open(address: LimitAddress, wish: Wish) -> bool:
    """True if a wish is to be refused, as the breaker is open."""
    rule, state = wish.rule.breaker, address.breaker
    return rule is not None and rule.on_open == "fail" and state is not None and state.phase == "open"


def note_return(turn: Turn, address: LimitAddress, holding: Holding, message: ReturnGrant) -> None:
    """Count the outcomes of attempts under a grant; the message has all of them so far."""
    passed, failed = max(0, message.passed - holding.passed), max(0, message.failed - holding.failed)
    holding.passed, holding.failed = holding.passed + passed, holding.failed + failed
    state, rule = state_of(address), address.rule.breaker
    if rule is None or not (passed or failed) or state.phase == "open":
        return
    state.outcomes.append((turn.at, passed, failed))
    state.outcomes = [each for each in state.outcomes if each[0] > turn.at - rule.window]
    all_passed, all_failed = state.count()
    if state.phase == "half_open":
        if all_failed:
            _open(turn, address, turn.at + rule.cooldown)
        elif all_passed >= rule.probes:
            _close(turn, address)
    elif _is_broken(rule, all_passed, all_failed):
        _open(turn, address, turn.at + rule.cooldown)


def _is_broken(rule: Breaker, passed: int, failed: int) -> bool:
    if passed + failed < rule.fewest_calls:
        return False
    if rule.failures is not None:
        return failed >= rule.failures
    assert rule.rate is not None
    return failed >= rule.rate * (passed + failed)


def set_breaker(turn: Turn, address: LimitAddress, message: SetBreaker) -> None:
    """A person opens a breaker, or closes it."""
    if message.is_open:
        _open(turn, address, turn.at + BY_HAND_SECONDS, message)
    else:
        _close(turn, address, message)


def forget_old(address: LimitAddress, now: float) -> None:
    """Drop outcomes that are older than the window."""
    if address.breaker is not None and address.rule.breaker is not None:
        begin = now - address.rule.breaker.window
        address.breaker.outcomes = [each for each in address.breaker.outcomes if each[0] > begin]


def breaker_due(address: LimitAddress, now: float) -> float | None:
    """When the breaker is to be looked at again, in seconds since the epoch."""
    state, rule = address.breaker, address.rule.breaker
    if state is None:
        return None
    if state.phase == "open":
        # One that nobody waits for stays open until the next wish: a timer for it would be due at once, for ever.
        return max(state.until, now) if address.wishes else None
    return state.outcomes[0][0] + rule.window if state.outcomes and rule is not None else None


def state_of(address: LimitAddress) -> BreakerState:
    if address.breaker is None:
        address.breaker = BreakerState()
    return address.breaker


def _open(turn: Turn, address: LimitAddress, until: float, person: SetBreaker | None = None) -> None:
    state = state_of(address)
    before, (passed, failed) = _shown(state), state.count()
    state.phase, state.until, state.outcomes = "open", until, []
    _note_person(state, person)
    if _shown(state) != before:
        said: dict[str, Any] = {"passed": passed, "failed": failed, "until": rfc3339(until)}
        said = said if person is None else _said(person)
        turn.address_event(address.run_id, address.rule.name, "breaker.opened", **_about(address), **said)
    _tell_workers(turn, address, is_open=True)


def _close(turn: Turn, address: LimitAddress, person: SetBreaker | None = None) -> None:
    state = state_of(address)
    if state.phase != "closed":
        said = {} if person is None else _said(person)
        turn.address_event(address.run_id, address.rule.name, "breaker.closed", **_about(address), **said)
    state.phase, state.outcomes = "closed", []
    _note_person(state, None)
    _tell_workers(turn, address, is_open=False)


def _shown(state: BreakerState) -> tuple[str, bool, str, str]:
    """What an event tells that has changed. One that a person opens again in the same way is not told."""
    return state.phase, state.by_hand, state.by, state.reason


def _about(address: LimitAddress) -> dict[str, str]:
    return {"agent": address.rule.name, "project": ALL_PROJECTS}


def _said(person: SetBreaker) -> dict[str, str | None]:
    return {"by": person.by or None, "reason": person.reason or None}


def _note_person(state: BreakerState, person: SetBreaker | None) -> None:
    state.by_hand = person is not None
    state.by, state.reason = ("", "") if person is None else (person.by, person.reason)


def _tell_workers(turn: Turn, address: LimitAddress, *, is_open: bool) -> None:
    names = turn.config.names
    agent = paused_agent(address.rule.name)
    ttl = min(FLAG_SECONDS, max(1.0, state_of(address).until - turn.at)) if is_open else GONE_SECONDS
    turn.effects.append(StorePut(agent, names.pause_flag(agent, agent), b"1", ttl, fenced=False))
    turn.effects.append(Notify(names.pause_channel, (b"+" if is_open else b"-") + agent.encode()))
