"""A worker admits chunks only where what they require fits beside what runs, and lets none wait behind others for
ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from single_worker import offered

from anabranch.core.request.resources import Requires
from anabranch.core.requirements import parse_offers
from anabranch.runtime.process.clock import SystemClock
from anabranch_taskgroup.worker.offered import Offered, chunk_key
from anabranch_taskgroup.worker.resource_gate import MAX_WAITING, OVERTAKING_SECONDS, ResourceGate


class Time(SystemClock):
    now_is = 0.0

    def monotonic(self) -> float:
        return self.now_is


def chunk(number: int, requires: dict[str, Any] | None, **more: Any) -> Offered:
    return offered("r", chunk=number, requires=None if requires is None else Requires(**requires), **more)


class Gate:
    def __init__(self, offers: str) -> None:
        self.clock = Time()
        self.gate = ResourceGate(parse_offers(offers), self.clock)

    def admit(self, *offers: Offered) -> tuple[list[int], list[int]]:
        admitted = self.gate.admit(offers, lambda agent: agent != "unknown")
        return numbers(admitted.claim), [offer.chunk for offer in admitted.back]

    def end(self, each: Offered) -> list[int]:
        self.gate.give_back(chunk_key(each.offer))
        return numbers(self.gate.take_waiting())


def numbers(offers: Sequence[Offered]) -> list[int]:
    return [each.offer.chunk for each in offers]


def test_offers_that_fit_are_claimed_others_wait_and_those_that_never_fit_go_back() -> None:
    gate = Gate("cpu=2")
    two = chunk(0, {"cpu": 2})
    assert gate.admit(two, chunk(1, {"cpu": 1}), chunk(2, {"cpu": 3}), chunk(3, None)) == ([0, 3], [2])
    assert gate.gate.used["cpu"] == 2_000
    assert gate.end(two) == [1]
    assert not gate.gate.is_empty


def test_an_offer_that_is_repeated_is_neither_claimed_twice_nor_handed_back() -> None:
    gate = Gate("cpu=1")
    first, second = chunk(0, {"cpu": 1}), chunk(1, {"cpu": 1})
    gate.admit(first, second)
    assert gate.admit(first, second, chunk(2, {"cpu": 9}, again=True)) == ([], [])
    assert gate.end(first) == [1]


def test_an_offer_of_an_unknown_agent_holds_nothing() -> None:
    gate = Gate("cpu=1")
    assert gate.admit(chunk(0, {"cpu": 1}, agent="unknown"), chunk(1, {"cpu": 1})) == ([0, 1], [])


def test_later_offers_overtake_for_a_while_and_then_room_is_kept() -> None:
    gate = Gate("cpu=2")
    small = [chunk(number, {"cpu": 1}) for number in range(5)]
    gate.admit(small[0], chunk(9, {"cpu": 2}))
    assert gate.admit(small[1]) == ([1], [])
    gate.clock.now_is = OVERTAKING_SECONDS
    assert gate.end(small[0]) == []
    assert gate.admit(small[2]) == ([], [])
    assert gate.end(small[1]) == [9]
    assert gate.end(chunk(9, {"cpu": 2})) == [2]


def test_only_so_many_offers_wait() -> None:
    gate = Gate("cpu=1")
    gate.admit(*(chunk(number, {"cpu": 1}) for number in range(MAX_WAITING + 10)))
    assert len(gate.gate.waiting) == MAX_WAITING
    gate.gate.forget(chunk_key(gate.gate.waiting[0]))
    assert len(gate.gate.waiting) == MAX_WAITING - 1
    gate.gate.close()
    assert gate.gate.waiting == []


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.booleans()), max_size=40))
def test_never_more_is_held_than_offered_and_all_of_it_is_given_back(steps: list[tuple[int, int, bool]]) -> None:
    gate, running = Gate("cpu=3,gpu=2"), dict[int, Offered]()
    for number, (cpu, gpu, ends) in enumerate(steps):
        gate.clock.now_is += 1
        new = chunk(number, {"cpu": cpu, "gpu": gpu})
        running |= dict.fromkeys(gate.admit(new)[0], new)
        if ends and running:
            started = gate.end(running.pop(next(iter(running))))
            running |= {each: chunk(each, {"cpu": steps[each][0], "gpu": steps[each][1]}) for each in started}
        assert gate.gate.used["cpu"] == 1_000 * sum(steps[each][0] for each in running) <= 3_000
        assert gate.gate.used["gpu"] == 1_000 * sum(steps[each][1] for each in running) <= 2_000
    while running:
        started = gate.end(running.pop(next(iter(running))))
        running |= {each: chunk(each, {"cpu": steps[each][0], "gpu": steps[each][1]}) for each in started}
    assert gate.gate.is_empty
    assert set(gate.gate.used.values()) == {0}
