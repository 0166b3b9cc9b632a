"""Starts the runners of a chunk: coroutines that run its members one after another, each while it holds a slot."""

from __future__ import annotations

import asyncio
from functools import partial

from anabranch.ports import Clock
from anabranch_taskgroup.worker.fair_semaphore import WorkerSlots, any_should_yield
from anabranch_taskgroup.worker.runner import ChunkRun


class SlotRunners:
    """Runs the members of chunks within the slots of one worker."""

    def __init__(self, slots: WorkerSlots, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock

    async def start(self, run: ChunkRun, running: int = 0) -> None:
        """Start as many runners as members may run at once.

        After each one it yields to the loop: where agents never wait, the first runner runs all members in its
        first step, and no further runner is needed.

        Args:
            running: members that run already.
        """
        for _ in range(self._runner_count(run) - running):
            if run.all_begun or not run.is_held:
                return
            run.runners.append(asyncio.create_task(self._runner(run)))
            await asyncio.sleep(0)

    def _runner_count(self, run: ChunkRun) -> int:
        limits = (
            run.offer.concurrency,
            run.prepared.agent.max_concurrency,
            self._slots.count_of(run.prepared.agent),
            run.size,
        )
        return min(limit for limit in limits if limit is not None)

    async def _runner(self, run: ChunkRun) -> None:
        if run.offer.mode == "careful":  # each member takes its slot by itself, after the suspects' lock
            await run.run_members()
            return
        run.should_yield = partial(any_should_yield, self._slots.of(run.prepared.agent), run.offer.run_id)
        while not (run.all_begun or run.paused):
            async with self._slots.one(run.prepared.agent, run.offer.run_id):
                if not run.began:
                    run.began = self._clock.monotonic()
                    if run.on_begun is not None:
                        run.on_begun()
                await run.run_members()
