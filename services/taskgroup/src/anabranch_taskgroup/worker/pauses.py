"""Which runs are paused: a message on a channel, and a flag in the store that counts.

A message may be lost or late. So the flags of runs that have members here are read with each heartbeat, and that
of a run before one of its chunks is handed back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from anabranch.core.bounded import BoundedDict
from anabranch.core.names import Names
from anabranch.ports import Notifier, StateStore

MAX_RUNS = 10_000
"""Maximum paused runs that are remembered; a forgotten one is found again by its flag."""


class Pauses:
    """The runs of which this worker starts no members.

    Args:
        on_pause: called with the id of a run when it is paused.
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
        await self._notifier.subscribe(self._names.pause_channel, self._received)

    async def stop(self) -> None:
        await self._notifier.unsubscribe(self._names.pause_channel, self._received)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._paused

    def _received(self, message: bytes | None) -> None:
        # The subscription was interrupted. The flags of runs with members here are read with the next heartbeat.
        if message is None:
            return
        sign, run_id = message[:1], message[1:].decode()
        if sign == b"-":
            self._paused.pop(run_id, None)
        elif sign == b"+":
            self._pause(run_id)

    def _pause(self, run_id: str) -> None:
        self._paused[run_id] = None
        self._on_pause(run_id)

    async def is_paused(self, run_id: str, session_id: str) -> bool:
        """Read the flag of a run that a message called paused.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        await self.poll({run_id: session_id})
        return run_id in self._paused

    async def poll(self, sessions: Mapping[str, str]) -> None:
        """Read the flags of runs; they override what messages said.

        Args:
            sessions: by run id, the id of its session.

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
                self._pause(run_id)
