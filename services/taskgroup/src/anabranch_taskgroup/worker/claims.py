"""Claims deliveries of chunks in the store: the first worker that claims a delivery runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from anabranch.core.names import Names
from anabranch.core.wire.messages import Offer
from anabranch.ports import StateStore
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch.runtime.until_available import until_available
from anabranch_taskgroup.session.store_keys import claim_key
from anabranch_taskgroup.worker.held_chunks import HeldChunks
from anabranch_taskgroup.worker.offered import ChunkKey, Offered, chunk_key


class Claims:
    """The claims of one worker.

    Args:
        incarnation: the name under which the worker claims. A new life of its process has another one, so that it
            does not take the claims of the last one for its own.
        lease: seconds that a store must have existed for its claims to be complete.
        is_wanted: asked for each offer that is not held; False drops it.
        show_alive: awaited before each claim: writes the worker's liveness key where it may have expired. An owner
            counts a worker as dead that has claims and no such key.
    """

    def __init__(
        self,
        store: StateStore,
        names: Names,
        life: StoreIdentityTracker,
        held: HeldChunks,
        is_wanted: Callable[[Offer], bool],
        show_alive: Callable[[], Awaitable[None]],
        *,
        incarnation: str,
        lease: float,
    ) -> None:
        self._store = store
        self._names = names
        self._life = life
        self._held = held
        self._is_wanted = is_wanted
        self._show_alive = show_alive
        self._incarnation = incarnation
        self._lease = lease

    async def claim(self, offers: Sequence[Offered]) -> list[tuple[ChunkKey, Offered]]:
        """Claim deliveries with one call of the store, and retry while the store is away.

        Returns:
            The offers whose claim this worker got, each with its key; the worker must start them.
        """
        reserved: dict[ChunkKey, Offered] = {}
        for offered in offers:
            key = chunk_key(offered.offer)
            # A claim succeeds again for the worker that has it. So an offer and its repetition, which often come
            # in one batch, would both be granted and run twice: the reservation drops the second.
            if not self._held.is_known(key) and self._is_wanted(offered.offer):
                self._held.reserve(key)
                reserved[key] = offered
        if not reserved:
            return []
        given = list(reserved.values())
        holders = await until_available(lambda: self._claim([each.offer for each in given]), "claim offers")
        granted: list[tuple[ChunkKey, Offered]] = []
        for (key, offered), holder in zip(reserved.items(), holders, strict=True):
            if holder == self._incarnation:
                self._held.open(key, offered.offer)
                granted.append((key, offered))
            else:
                self._held.release(key)
        return granted

    async def claim_begun(self, keys: Iterable[ChunkKey]) -> list[ChunkKey]:
        """Claim held chunks that have no claim, with one call of the store, and retry while the store is away.

        Returns:
            Those that another worker has claimed; they must be given up.
        """
        # Again at each attempt: chunks that have ended meanwhile need no claim.
        asked: dict[ChunkKey, Offer] = {}

        async def attempt() -> Sequence[str]:
            asked.clear()
            asked.update((key, offer) for key in keys if (offer := self._held.unclaimed.get(key)) is not None)
            return await self._claim(list(asked.values())) if asked else ()

        holders = await until_available(attempt, "claim chunks that have begun")
        answered = [key for key in zip(asked, holders, strict=True) if key[0] in self._held.unclaimed]
        for key, holder in answered:
            if holder == self._incarnation:
                del self._held.unclaimed[key]
        return [key for key, holder in answered if holder != self._incarnation]

    async def claim_for_blocked_loop(self, store: StateStore) -> None:
        """Claim all chunks without a claim, in the thread of the heartbeat: an agent may keep the event loop from
        it. The loop claims them again, which succeeds, and notes the result.

        Args:
            store: a connection of that thread.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        # Copied in one step of the interpreter, because the loop may change it.
        offers = list(self._held.unclaimed.values())
        if offers:
            await self._claim(offers, store)

    async def holders(self, offers: Sequence[Offer]) -> list[str | None]:
        """The worker that has claimed each of these deliveries; None where nobody has.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        found = await self._store.get([claim_key(self._names, each) for each in offers])
        return [None if value is None else value.decode() for value in found]

    async def _claim(self, offers: Sequence[Offer], store: StateStore | None = None) -> Sequence[str]:
        """Claim offers with one call; returns the holder of each claim."""
        # One call has one time to live. A claim that lasts longer does no harm, because its key names one
        # delivery.
        ttl = max(offer.claim_ttl for offer in offers)
        keys = [claim_key(self._names, each) for each in offers]
        if store is None:  # the thread of the heartbeat has just written the key
            await self._show_alive()
        return await (store or self._store).claim(keys, self._incarnation, ttl)

    async def renew(self) -> None:
        """Claim the running chunks again where the store is new, before their owners offer them to other workers.

        A store that restarted empty has lost the claims.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
        """
        running = [run.offer for _, run in self._held.running]
        if await self._life.age() < self._lease and running:
            await self._claim(running)
