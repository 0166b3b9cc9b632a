"""How an owner treats commits of other generations of the topic, and timers with odd clocks or load."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names
from anabranch.ports import Committed, TopicSpec
from anabranch.runtime.ownership.due_timers import DueTimers
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.log_generation import generation_of
from anabranch.runtime.ownership.replay import committed_generation, discard_stale_commit, position
from anabranch.runtime.process.supervision import Supervisor
from anabranch.testing.loop import VirtualClock, VirtualLoop

NAMES = Names("t.")


@pytest.mark.parametrize(
    ("committed", "generation", "epoch", "counts"),
    [
        (None, 0, 5, False),
        (position(4, 2, "s"), 0, 5, True),
        (position(5, 2, "s"), 0, 5, True),
        (position(4, 2, "s", 3), 3, 5, True),
        (Committed(4, "not ours"), 0, 5, True),
        (position(5_000, 4_990, "s"), 1, 9, False),
        (position(4, 2, "s"), 1, 9, False),
        (position(5_000, 4_990, "s"), 0, 9, False),
    ],
)
def test_a_commit_counts_only_in_its_own_generation_of_the_topic(
    committed: Committed | None, generation: int, epoch: int, counts: bool
) -> None:
    """Otherwise all records below it would be skipped, and no request of the new log would be answered."""
    assert discard_stale_commit(committed, generation, epoch) == (committed if counts else None)


async def test_an_emptied_store_does_not_restart_the_generations() -> None:
    """Records on the log carry admissions of the present generation: in another one no report would count."""
    clock = VirtualClock(asyncio.get_running_loop())
    broker = MemoryBroker()
    log = MemoryLog(broker, clock)
    store = MemoryStore(MemoryServer(clock))
    generations = []
    for _ in range(3):
        broker.create(TopicSpec("runs", 1, {}))
        generations.append(await generation_of(log, store, NAMES, "runs"))
        broker.delete("runs")
    assert generations == [0, 1, 2]
    broker.create(TopicSpec("runs", 1, {}))
    assert await generation_of(log, store, NAMES, "runs") == 3
    noted = committed_generation(position(7, 7, "s", 3))

    emptied = MemoryStore(MemoryServer(clock))

    assert await generation_of(log, emptied, NAMES, "runs", noted) == 3
    broker.delete("runs")
    broker.create(TopicSpec("runs", 1, {}))
    assert await generation_of(log, emptied, NAMES, "runs", noted) == 4


async def test_brokers_without_topic_ids_indicate_no_new_generation() -> None:
    """For example brokers before Kafka 2.8, and some of a cluster that is being upgraded from such a version."""
    clock = VirtualClock(asyncio.get_running_loop())
    store = MemoryStore(MemoryServer(clock))
    ids = ["", "a", "", "a", "b", "", "b"]

    class Log:
        async def incarnation(self, topic: str) -> str:
            return ids.pop(0)

    log: Any = Log()
    assert [await generation_of(log, store, NAMES, "runs") for _ in range(7)] == [0, 0, 0, 0, 1, 1, 1]


# --- timers ------------------------------------------------------------------------------------------


class Timed:
    """A handler with one timer that stays due at one time, and the log to which its records are appended."""

    topic = "t.runs"

    def __init__(self, due: float) -> None:
        self.due = due
        self.appended: list[float] = []

    def next_due(self, state: None) -> float:
        return self.due

    def due_records(self, state: None, now: float) -> list[float]:
        return [now] if self.due <= now else []

    async def publish(self, records: list[float]) -> None:
        self.appended += records


class Timers:
    """The timers of one partition, in virtual time."""

    def __init__(self, due_in: float) -> None:
        self.loop = asyncio.get_running_loop()
        clock = VirtualClock(self.loop)
        self.handler: Any = Timed(clock.now() + due_in)
        self._timers = DueTimers(self.handler, self.handler, LogClock(clock), Supervisor().tasks())
        self.owned: Any = SimpleNamespace(
            number=0, state=None, timer=None, timer_tries=0, timer_due=None, is_caught_up=True, closing=False
        )

    def turn(self) -> None:
        """Report a turn, after which another timer may be the next one."""
        self._timers.arm(self.owned)


def in_virtual_time(test: Any) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test())


def test_a_timer_fires_although_turns_follow_each_other_closely() -> None:
    async def busy() -> None:
        timers = Timers(due_in=1.0)
        while timers.loop.time() < 1.5:
            timers.turn()
            await asyncio.sleep(0.005)
        assert timers.handler.appended

    in_virtual_time(busy)


def test_a_timer_without_effect_is_appended_more_and_more_rarely() -> None:
    """For example if this machine's clock is ahead of the broker's: each record is a turn that changes nothing."""

    async def ahead() -> None:
        timers = Timers(due_in=-1.0)
        while timers.loop.time() < 60.0:
            timers.turn()
            await asyncio.sleep(0.01)
        assert 55 < len(timers.handler.appended) < 75

        timers.handler.due += 10.0
        before, began = len(timers.handler.appended), timers.loop.time()
        while len(timers.handler.appended) == before:
            timers.turn()
            await asyncio.sleep(0.01)
        assert timers.loop.time() - began < 1.1, "another timer is as quick as ever"

    in_virtual_time(ahead)


@pytest.mark.parametrize(
    ("broker_time", "now"),
    [
        (100.0, 1_000.0),  # at once
        (103.0, 1_000.0),  # the broker was away for a while: it took the record before it answered
        (104.0, 1_000.0),
        (164.0, 1_060.0),  # it is a minute ahead
        (40.0, 940.0),  # or behind
    ],
)
def test_the_clock_difference_is_the_smallest_that_explains_the_brokers_time(
    broker_time: float, now: float
) -> None:
    clock = LogClock(SimpleNamespace(now=lambda: 1_000.0, monotonic=lambda: 0.0))

    clock.observe(broker_time, 100.0, 104.0)

    assert clock.now() == now
