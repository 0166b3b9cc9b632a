"""What a worker knows of paused runs: heard on a channel, and the flag in the store is the data.

A message may be lost either way. So the flags of the runs at hand are read now and then, and before a chunk is
given back for a pause that was only heard of. Who runs what is not its business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from anabranch.core.bounded import BoundedDict
from anabranch.core.names import Names
from anabranch.ports import Notifier, StateStore

MAX_RUNS = 10_000
"""Maximum paused runs that are remembered; a forgotten one is found by its flag."""


class Pauses:
    """The runs of which this worker starts no members.

    Args:
        on_pause: called with a run id once its members are to stay where they are.
    """

    def __init__(
        self, store: StateStore, notifier: Notifier, names: Names, on_pause: Callable[[str], None]
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._names = names
        self._on_pause = on_pause
        self._paused: BoundedDict[str, None] = BoundedDict(MAX_RUNS)

    async def start(self) -> None:
        await self._notifier.subscribe(self._names.pause_channel, self._heard)

    async def stop(self) -> None:
        await self._notifier.unsubscribe(self._names.pause_channel, self._heard)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._paused

    def _heard(self, message: bytes | None) -> None:
        if message is None:
            return
        sign, run_id = message[:1], message[1:].decode()
        if sign == b"-":
            self._paused.pop(run_id, None)
        elif sign == b"+":
            self._note(run_id)

    def _note(self, run_id: str) -> None:
        self._paused[run_id] = None
        self._on_pause(run_id)

    async def holds(self, run_id: str, session_id: str) -> bool:
        """Whether a run that is thought to be paused is.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        await self.look({run_id: session_id})
        return run_id in self._paused

    async def look(self, sessions: Mapping[str, str]) -> None:
        """Believe the flags of these runs (run id -> session id).

        Raises:
            ServerUnavailable: the store does not answer.
        """
        if not sessions:
            return
        flags = [self._names.pause_flag(session_id, run_id) for run_id, session_id in sessions.items()]
        for run_id, flag in zip(sessions, await self._store.get(flags), strict=True):
            if flag is None:
                self._paused.pop(run_id, None)
            elif run_id not in self._paused:
                self._note(run_id)
