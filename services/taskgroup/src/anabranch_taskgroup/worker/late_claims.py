"""Claims the chunks that were begun without a claim, once they run for longer than a moment.

The owner in the same process starts chunks without waiting for their claims: as long as it owns their partition no
other worker has a reason to run them. Most of them have ended when a claim would have been granted. The others are
claimed in the background, so that every owner sees where they run, and before the owner releases their partition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

from anabranch_taskgroup.worker.claims import Claims
from anabranch_taskgroup.worker.held_chunks import HeldChunks
from anabranch_taskgroup.worker.offered import ChunkKey

log = logging.getLogger(__name__)

CLAIM_SECONDS = 0.02
"""A chunk runs without a claim for one to two of these."""

Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]


class LateClaims:
    """The claims of one worker that nobody waits for.

    Args:
        spawn: starts a task of the worker.
        on_refused: called with a chunk that another worker has claimed, before it is forgotten.
    """

    def __init__(
        self, claims: Claims, held: HeldChunks, spawn: Spawn, on_refused: Callable[[ChunkKey], None]
    ) -> None:
        self._claims = claims
        self._held = held
        self._spawn = spawn
        self._on_refused = on_refused
        self._seen: set[ChunkKey] = set()
        """The chunks without a claim at the last look."""
        self._timer: asyncio.TimerHandle | None = None
        self._wanted: list[ChunkKey] = []
        self._answered: asyncio.Future[None] | None = None
        """Done once what is wanted has been claimed."""
        self._is_claiming = False

    def watch(self) -> None:
        """Note that a chunk was begun without a claim."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CLAIM_SECONDS, self._look)

    def stop(self) -> None:
        """Claim no further chunk by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if old := [key for key in self._held.unclaimed if key in self._seen]:
            self._claim(old)
        self._seen = set(self._held.unclaimed)
        self._timer = None
        if self._seen:
            self.watch()

    async def claim(self, keys: Iterable[ChunkKey]) -> None:
        """Claim those of these chunks that have no claim. Returns once each is claimed, has ended, or was given up
        because another worker has claimed it. Waits while the store is away."""
        missing = [key for key in keys if key in self._held.unclaimed]
        if missing:
            # Shielded, because other callers wait for the same call of the store.
            await asyncio.shield(self._claim(missing))

    def _claim(self, keys: Collection[ChunkKey]) -> asyncio.Future[None]:
        self._wanted += keys
        if self._answered is None:
            self._answered = asyncio.get_running_loop().create_future()
        if not self._is_claiming:
            self._is_claiming = True
            self._spawn(self._claim_wanted(), "claim chunks that have begun")
        return self._answered

    async def _claim_wanted(self) -> None:
        """Claim what is wanted, with one call of the store at a time."""
        try:
            while (answered := self._answered) is not None:
                wanted, self._wanted, self._answered = self._wanted, [], None
                try:
                    refused = await self._claims.claim_begun(wanted)
                except BaseException:
                    answered.cancel()
                    raise
                for key in refused:
                    log.warning("taskgroup worker: another worker has claimed chunk %s, giving it up here", key)
                    self._on_refused(key)
                answered.set_result(None)
        finally:
            self._is_claiming = False
