"""Runners whose members never wait share the loop: all in each iteration, or in turn beside a small task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from anabranch.runtime.process.clock import SystemClock
from anabranch_taskgroup.worker.loop_share import TURNS_SECONDS, LoopShare


class StoppedClock(SystemClock):
    """Stands still until it is advanced."""

    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


class Loop:
    """Runners that run some slices each. `iterations` has those that ran a slice, by iteration of the loop."""

    def __init__(self) -> None:
        self.clock = StoppedClock()
        self.share = LoopShare(self.clock)
        self.iterations: list[list[str]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, run_ids: Sequence[str], slices: int) -> None:
        self.tasks += [asyncio.ensure_future(self._run(run_id, slices)) for run_id in run_ids]

    async def _run(self, run_id: str, slices: int) -> None:
        for _ in range(slices):
            await self.share.turn(run_id)
            self.iterations[-1].append(run_id)

    async def iterate(self, count: int) -> None:
        """Let the loop iterate; what ran is noted for each iteration in which something did."""
        for _ in range(count):
            self.iterations.append([])
            await asyncio.sleep(0)
        self.iterations = [each for each in self.iterations if each]


async def test_all_runners_continue_in_each_iteration() -> None:
    loop = Loop()
    loop.begin(["a", "a", "b"], slices=2)
    await loop.iterate(6)
    assert loop.iterations == [["a", "a", "b"], ["a", "a", "b"]]
    assert not loop.share.is_in_use


async def test_one_runner_continues_in_each_iteration_after_a_small_task() -> None:
    loop = Loop()
    loop.share.take_turns()
    loop.begin(["a", "a", "b"], slices=2)
    await loop.iterate(20)
    assert [len(each) for each in loop.iterations] == [1] * 6


async def test_runs_are_served_in_turn() -> None:
    loop = Loop()
    loop.share.take_turns()
    loop.begin(["a", "a", "a", "b"], slices=1)
    await loop.iterate(20)
    assert loop.iterations == [["a"], ["b"], ["a"], ["a"]]


async def test_a_cancelled_runner_takes_no_turn() -> None:
    loop = Loop()
    loop.share.take_turns()
    loop.begin(["a", "b", "c"], slices=1)
    await asyncio.sleep(0)
    assert loop.share.is_waiting("b")
    loop.tasks[1].cancel()
    await loop.iterate(20)
    assert loop.iterations == [["a"], ["c"]]
    assert not loop.share.is_in_use


async def test_turns_end_some_time_after_the_last_small_task() -> None:
    loop = Loop()
    loop.share.take_turns()
    loop.begin(["a"] * 5, slices=1)
    await asyncio.sleep(0)
    loop.clock.seconds += TURNS_SECONDS
    await loop.iterate(10)
    assert loop.iterations == [["a"] * 5]
