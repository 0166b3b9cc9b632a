"""The chunks that a worker holds, from the attempt to claim a delivery until its last report."""

from __future__ import annotations

import asyncio

from anabranch.core.bounded import BoundedDict
from anabranch.core.wire.messages import Offer
from anabranch_taskgroup.worker.runner import ChunkRun

MAX_DONE = 10_000
"""Maximum finished deliveries that are remembered, so that a repeated offer of one is dropped."""


class HeldChunks:
    """A worker's chunks by the store key of their claim. One key is one delivery of one chunk.

    A delivery is reserved while it is being claimed, then opened (its document is loaded), then it runs, then it
    is finished. A reservation without a claim is released and forgotten.
    """

    def __init__(self) -> None:
        self._runs: dict[str, ChunkRun | None] = {}
        self._opening: dict[str, Offer] = {}
        self._done: BoundedDict[str, None] = BoundedDict(MAX_DONE)
        self._released = asyncio.Event()

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, key: object) -> bool:
        return key in self._runs

    def is_known(self, key: str) -> bool:
        """True if a delivery is held, or was finished here: it must not run again."""
        return key in self._runs or key in self._done

    def run_of(self, key: str) -> ChunkRun | None:
        """The run of a chunk; None before it is opened."""
        return self._runs.get(key)

    @property
    def keys(self) -> list[str]:
        """The keys of all held chunks."""
        return list(self._runs)

    @property
    def running(self) -> list[tuple[str, ChunkRun]]:
        """The chunks that are open, by key. A copy: chunks may finish while a caller walks through it."""
        return [(key, run) for key, run in self._runs.items() if run is not None]

    @property
    def opening(self) -> list[Offer]:
        """The offers that were claimed and are being opened."""
        return list(self._opening.values())

    def reserve(self, key: str) -> None:
        """Hold a delivery before it is claimed."""
        self._runs[key] = None

    def release(self, key: str) -> None:
        """Forget a delivery that another worker claimed. It is not remembered as finished: should the store lose
        that claim and its worker die, the same delivery may be offered here again."""
        self._runs.pop(key, None)
        self._released.set()

    def open(self, key: str, offer: Offer) -> None:
        """Note that a delivery is claimed and is being opened."""
        self._opening[key] = offer

    def start(self, key: str, run: ChunkRun) -> None:
        """Note that a chunk is open and runs."""
        self._runs[key] = run
        self._opening.pop(key, None)

    def finish(self, key: str) -> None:
        """Stop holding a chunk that has ended here: a further offer of the same delivery is dropped."""
        self._runs.pop(key, None)
        self._opening.pop(key, None)
        self._done[key] = None
        self._released.set()

    async def wait_below(self, number: int) -> None:
        """Return once fewer than `number` chunks are held."""
        while len(self._runs) >= number:
            # Checked again after each release, because another chunk may have taken the place.
            self._released.clear()
            await self._released.wait()
