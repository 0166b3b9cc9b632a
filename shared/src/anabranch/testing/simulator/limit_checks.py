"""Checks the limits that runs share, by the order of the log: no key, rate or breaker grants more than it allows,
and none grants anything while it is held back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from anabranch.core.limit_addresses import PREFIX
from anabranch.core.names import Names
from anabranch.core.wire.codec import RUNS
from anabranch.core.wire.messages import HoldLimit, Message, ReturnGrant, Snapshot, WantGrant
from anabranch.ports import Incoming
from anabranch.testing.simulator.breaker_model import BreakerModel
from anabranch_agency.run.actor import decide
from anabranch_agency.run.limit_state import LimitAddress, Place, path_of
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DecisionConfig

Granted = Mapping[Place, int]
"""Members that each wish of a limit was granted."""


class LimitCheck:
    """Folds the records about limits apart from the services, and checks after each that no limit is exceeded."""

    def __init__(self, names: Names, report: Callable[[str], None]) -> None:
        self._names, self._report = names, report
        self._config = DecisionConfig(names)
        self._states: dict[int, PartitionState] = {}
        self._starts: dict[str, list[tuple[float, int]]] = {}
        self._known: dict[str, dict[Place, int]] = {}
        """What was granted so far, by address and wish."""
        self._blocked: dict[str, float] = {}
        """Until when nothing may be granted, in seconds since the epoch."""
        self._breakers: dict[str, BreakerModel] = {}

    def appended(self, record: Incoming) -> None:
        """Observe a record that was appended to the log."""
        if record.topic in (self._names.groups, self._names.runs) and b'"type":"granted"' in record.value[:2_000]:
            self._check_answer(orjson.loads(record.value.partition(b"\n")[0]))
        address = (record.key or b"").decode("utf-8", "replace")
        if record.topic != self._names.runs or not address.startswith(PREFIX):
            return
        state = self._states.setdefault(record.partition, PartitionState(record.partition))
        message = RUNS.decode(record.value).message
        if isinstance(message, Snapshot):
            return
        now, before = record.timestamp, state.limits.get(address)
        counts = _outcomes(before, message)
        decide(self._config, state, message, record.offset, now)
        limit = state.limits.get(address)
        new = self._new(address, limit, message)
        if isinstance(message, HoldLimit):
            self._blocked[address] = max(self._blocked.get(address, 0.0), message.until)
        # An address that nobody needs any more is dropped, after it has counted.
        limit = limit or before
        if limit is not None:
            for problem in self._problems(address, limit, now, new, counts):
                self._report(problem)

    def _new(self, address: str, limit: LimitAddress | None, message: Message) -> int:
        """The members that a record has granted, and notes them."""
        present = _granted(limit)
        known = self._known.setdefault(address, {})
        new = sum(max(0, granted - known.get(place, 0)) for place, granted in present.items())
        for place, granted in present.items():
            known[place] = max(granted, known.get(place, 0))
        # A holder that repeats what it holds was granted that before.
        return 0 if isinstance(message, WantGrant) and message.held else new

    def _problems(
        self, address: str, limit: LimitAddress, now: float, new: int, counts: tuple[int, int]
    ) -> Iterator[str]:
        rule, held = limit.rule, sum(each.amount for each in limit.holders.values())
        if held != limit.held:
            yield f"the limit {rule.name!r} counts {limit.held} members, and {held} hold it"
        if rule.kind not in ("rate", "breaker") and held > rule.limit:
            yield f"the key {rule.name!r} is held by {held} members, {rule.limit} are allowed"
        blocked = self._blocked.get(address, 0.0)
        if new and now < blocked:
            yield f"the limit {rule.name!r} granted {new} members {blocked - now:g} s before it may"
        if rule.kind == "rate" and new:
            yield from self._rate_problems(address, limit, now, new)
        if rule.kind == "breaker" and rule.breaker is not None:
            model = self._breakers.setdefault(address, BreakerModel())
            is_asked = bool(new or limit.wishes) and now >= blocked
            yield from model.observe(rule, now, counts, is_asked=is_asked, granted=new, held=held)

    def _rate_problems(self, address: str, limit: LimitAddress, now: float, new: int) -> Iterator[str]:
        """More members were granted in a time than the burst, and what the time adds."""
        rule, starts = limit.rule, self._starts.setdefault(address, [])
        starts.append((now, new))
        total = 0
        for at, count in reversed(starts):
            total += count
            most = limit.capacity + max(0.0, now - at) * rule.limit / rule.per
            if total > most + 1e-6:
                yield f"the rate {rule.name!r} had {total} members in {now - at:g} s, {most:g} are allowed"
                return

    def _check_answer(self, header: Mapping[str, Any]) -> None:
        """Check that an owner has told a holder only what the log says: one that was replaced may not."""
        if header.get("type") != "granted" or header.get("verdict", "granted") != "granted":
            return
        where = (header["run_id"], header.get("admission"), header.get("group", ""), header.get("task", ""))
        place: Any = (*where, tuple(header.get("iteration", ())), header["number"])
        known = self._known.get(header["address"], {})
        if header["amount"] > known.get(place, 0):
            self._report(f"{where} was granted {header['amount']} members, by the log {known.get(place, 0)}")


def _granted(limit: LimitAddress | None) -> Granted:
    if limit is None:
        return {}
    if limit.rule.kind == "rate":
        return {place: wish.granted for place, wish in limit.wishes.items()} | dict(limit.ended)
    return {place: each.amount for place, each in limit.holders.items()}


def _outcomes(limit: LimitAddress | None, message: Message) -> tuple[int, int]:
    """Attempts that passed, and that failed, which a record tells for the first time."""
    if limit is None or not isinstance(message, ReturnGrant):
        return 0, 0
    passed = failed = 0
    for place, holding in limit.holders.items():
        if place[:5] == path_of(message.holder) and message.number in (None, place[5]):
            passed += max(0, message.passed - holding.passed)
            failed += max(0, message.failed - holding.failed)
    return passed, failed
