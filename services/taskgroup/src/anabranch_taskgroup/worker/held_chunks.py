"""The chunks that a worker holds, from the attempt to claim a delivery until its last report."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress

from anabranch.core.wire.messages import Offer
from anabranch_taskgroup.worker.offered import ChunkKey, chunk_key
from anabranch_taskgroup.worker.runner import ChunkRun

MAX_DONE = 10_000
"""Maximum finished deliveries that are remembered, so that a repeated offer of one is dropped."""


class HeldChunks:
    """A worker's chunks by their key, which is one delivery of one chunk.

    A delivery is reserved while it is being claimed, then opened (its document is loaded), then it runs, then it
    is finished. A reservation without a claim is released and forgotten. A chunk of the owner in the same process
    may be held, and run, before it is claimed.
    """

    def __init__(self) -> None:
        self._runs: dict[ChunkKey, ChunkRun | None] = {}
        self._opening: dict[ChunkKey, Offer] = {}
        self.unclaimed: dict[ChunkKey, Offer] = {}
        """The held chunks that have no claim."""
        self.outside: set[ChunkKey] = set()
        """The held chunks whose members have begun outside of the worker's slots: they leave room for others."""
        self._done: OrderedDict[ChunkKey, None] = OrderedDict()
        self._released = asyncio.Event()

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def taking_room(self) -> int:
        """The number of held chunks that need slots of the worker, or wait."""
        return len(self._runs) - len(self.outside)

    def __contains__(self, key: object) -> bool:
        return key in self._runs

    def is_known(self, key: ChunkKey) -> bool:
        """True if a delivery is held, or was finished here: it must not run again."""
        return key in self._runs or key in self._done

    def run_of(self, key: ChunkKey) -> ChunkRun | None:
        """The run of a chunk; None before it is opened."""
        return self._runs.get(key)

    @property
    def keys(self) -> list[ChunkKey]:
        """The keys of all held chunks."""
        return list(self._runs)

    @property
    def running(self) -> list[tuple[ChunkKey, ChunkRun]]:
        """The chunks that are open, by key. A copy: chunks may finish while a caller walks through it."""
        return [(key, run) for key, run in self._runs.items() if run is not None]

    @property
    def offers(self) -> list[Offer]:
        """The offers of the chunks that run or are being opened."""
        return [*self._opening.values(), *(run.offer for run in self._runs.values() if run is not None)]

    @property
    def opening(self) -> list[Offer]:
        """The offers that were claimed and are being opened."""
        return list(self._opening.values())

    def reserve(self, key: ChunkKey) -> None:
        """Hold a delivery before it is claimed."""
        self._runs[key] = None

    def release(self, key: ChunkKey) -> None:
        """Forget a delivery that another worker claimed. It is not remembered as finished: should the store lose
        that claim and its worker die, the same delivery may be offered here again."""
        self._runs.pop(key, None)
        self._opening.pop(key, None)
        self.unclaimed.pop(key, None)
        self.outside.discard(key)
        self._released.set()

    def hold_unclaimed(self, offer: Offer) -> ChunkKey | None:
        """Hold a delivery without a claim; returns its key. None if it is known: it must not run again."""
        key = chunk_key(offer)
        if key in self._runs or key in self._done:
            return None
        self._runs[key] = None
        self._opening[key] = self.unclaimed[key] = offer
        return key

    def open(self, key: ChunkKey, offer: Offer) -> None:
        """Note that a delivery is claimed and is being opened."""
        self._opening[key] = offer

    def start(self, key: ChunkKey, run: ChunkRun) -> None:
        """Note that a chunk is open and runs."""
        self._runs[key] = run
        self._opening.pop(key, None)

    def finish(self, key: ChunkKey) -> None:
        """Stop holding a chunk that has ended here: a further offer of the same delivery is dropped."""
        self._runs.pop(key, None)
        self._opening.pop(key, None)
        self.unclaimed.pop(key, None)
        self.outside.discard(key)
        self._done[key] = None
        if len(self._done) > MAX_DONE:
            self._done.popitem(last=False)
        self._released.set()

    def note_outside(self, key: ChunkKey) -> None:
        """A chunk has begun outside of the worker's slots."""
        if key in self._runs:
            self.outside.add(key)
            self._released.set()

    def wake(self) -> None:
        """End `wait_for_change`."""
        self._released.set()

    async def wait_for_change(self, timeout: float | None) -> None:
        """Return once a chunk is finished or released, `wake` is called, or `timeout` seconds are over."""
        self._released.clear()
        if timeout is None:
            await self._released.wait()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._released.wait()

    async def wait_below(self, number: int) -> None:
        """Return once fewer than `number` chunks are held."""
        while len(self._runs) >= number:
            # Checked again after each release, because another chunk may have taken the place.
            self._released.clear()
            await self._released.wait()
