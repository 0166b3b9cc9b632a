"""Commits the positions of an owner, and detects a store that lost data.

The effects of a record are performed at once, but its offset is committed only after the **loss window**: a store
may return with data that is seconds old, and then the records after the committed offset are applied again. Before
each commit, the store is checked: if it was replaced or emptied, nothing younger is committed, and every partition
is taken over again, which writes the missing data.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Generic, TypeVar

from anabranch.core.admissions import log_position
from anabranch.core.errors import AnabranchError
from anabranch.runtime.ownership.owner_context import OwnerContext
from anabranch.runtime.ownership.replay import replay_begin

log = logging.getLogger(__name__)

S = TypeVar("S")

COMMIT_SECONDS = 1.0


class Committer(Generic[S]):
    """Commits the positions of one owner, delayed by the loss window.

    Args:
        stays_confirmed: commit a position again where there is none to commit, every two seconds.
    """

    def __init__(self, context: OwnerContext[S], *, stays_confirmed: bool = False) -> None:
        self._context = context
        self._stays_confirmed = stays_confirmed
        self._is_quiet = False
        """True if nothing was committed in the last round."""
        self._topic = context.handler.topic
        self._owned = context.owned
        self.unavailable_reason: str | None = None
        """Why the last commit failed; None if it did not."""

    async def run(self) -> None:
        """Commit every second, until cancelled."""
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            self._context.metrics.show_queued(len(owned.queue) for owned in self._owned.values())
            try:
                await self._commit_all()
                self.unavailable_reason = None
            except AnabranchError as error:
                self.unavailable_reason = str(error)
                log.warning(
                    "cannot commit the positions of %s, retrying in %g s: %s", self._topic, COMMIT_SECONDS, error
                )

    async def _commit_all(self) -> None:
        membership = self._context.membership
        # Before any commit: a commit vouches that the present store has the effects of all records before it.
        await self._check_store()
        if not membership.is_rejoining and await self._context.recreation.were_recreated(self._owned):
            membership.rejoin()
        if membership.is_rejoining:
            return  # a replaced store has to keep its own mark: the mark says how old the store is
        was_quiet, self._is_quiet = self._is_quiet, True
        # A copy, because partitions are assigned and revoked during the awaits.
        for owned in list(self._owned.values()):
            if not self._context.is_current(owned):
                continue  # lost during the commit before: the next owner may have committed more
            found = owned.committable(self._context.clock.monotonic())
            if found is not None and found != owned.last_commit:
                await membership.commit(owned.number, found)
                owned.last_commit = found
                self._is_quiet = False
        if self._stays_confirmed and self._is_quiet and was_quiet:
            await self._confirm()
        # After the commits: the saved position is the one that a successor would replay from.
        await self._save_positions()

    async def _confirm(self) -> None:
        """Commit the position of one partition again: its acceptance confirms the membership as a whole."""
        owned = next(iter(self._owned.values()), None)
        if owned is not None:
            self._is_quiet = not await self._context.membership.confirm(owned.number, owned.confirmed)

    async def _save_positions(self) -> None:
        """Write the replay positions into the store, where a restored backup shows by them how old it is."""
        marked = [owned for owned in self._owned.values() if owned.is_marked and owned.last_commit is not None]
        begins = {each.number: log_position(each.generation, replay_begin(each.last_commit)) for each in marked}
        await self._context.loss_detector.save_changed(begins, self._context.clock.monotonic())

    async def _check_store(self) -> None:
        """Compare the store's identity, and look for its marks. If either differs, the store may have lost data:
        drop all pending commits and take every partition over again, which writes the data again."""
        if not self._owned or self._context.membership.is_rejoining:
            return
        store = await self._context.resources.store.identity()
        marked = [number for number, owned in self._owned.items() if owned.is_marked]
        lost = await self._context.loss_detector.sample_lost(marked)
        if not lost and all(owned.store == store for owned in self._owned.values()):
            return
        log.warning(
            "the store %s: taking the partitions of %s over again to write their data again",
            "was emptied" if lost else "was replaced and may have lost its last seconds",
            self._topic,
        )
        for owned in self._owned.values():
            owned.trailing.reset()
        self._context.membership.rejoin()
