"""Which runs and groups are to stop: a message on a channel, with a flag in the store in case it is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from anabranch.core.names import Names
from anabranch.core.wire.messages import Offer
from anabranch.ports import Notifier, StateStore
from anabranch_taskgroup.session.store_keys import subjects


class Stops:
    """Calls `on_stop` with the subject that is to stop: a run, or one group of it. See `store_keys.subjects`."""

    def __init__(
        self, store: StateStore, notifier: Notifier, names: Names, on_stop: Callable[[str], None]
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._names = names
        self._on_stop = on_stop

    async def start(self) -> None:
        await self._notifier.subscribe(self._names.halt_channel, self._received)

    async def stop(self) -> None:
        await self._notifier.unsubscribe(self._names.halt_channel, self._received)

    def _received(self, message: bytes | None) -> None:
        # None: the subscription was interrupted. The flags are read with the next heartbeat.
        if message is not None:
            self._on_stop(message.decode())

    async def poll(self, offers: Iterable[Offer]) -> None:
        """Read the stop flags of the runs and groups of these offers.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        sessions = {subject: offer.session_id for offer in offers for subject in subjects(offer)}
        if not sessions:
            return
        flags = [self._names.stop_flag(session_id, subject) for subject, session_id in sessions.items()]
        for subject, flag in zip(sessions, await self._store.get(flags), strict=True):
            if flag is not None:
                self._on_stop(subject)
