"""Finds and stops work that outlives its worker and that no open member needs.

Work may be left when its run is cancelled while no worker has its members, and ended work stays on its platform
until its outcome is on the log. Every now and then one worker asks each engine what it has, and the owners of
the runs which of it is needed: they know the members. Their decision is pure (`session.work`), their answer a
message that may be lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import orjson

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.names import Names
from anabranch.core.wire.codec import encode
from anabranch.ports import Notifier, Outgoing, StateStore
from anabranch_taskgroup.worker.executors.programs.engine import EngineUnavailable, FoundExecution, ProgramEngine
from anabranch_taskgroup.worker.executors.programs.executor import STOP_GRACE_SECONDS, ProgramWork
from anabranch_taskgroup.worker.executors.programs.naming import question_of

log = logging.getLogger(__name__)

SOON_SECONDS = 1.0
"""How long a search waits after a stop of a run: most of its work is stopped by the workers that hold it."""
MAX_ASKED = 200
"""Executions of a run in one question."""


class Orphans:
    """The search of one worker.

    Args:
        put: queues a record for publication.
        every: seconds between two searches of the installation.
    """

    def __init__(
        self,
        work: ProgramWork,
        store: StateStore,
        notifier: Notifier,
        names: Names,
        put: Callable[[Outgoing], None],
        *,
        worker: str,
        every: float,
    ) -> None:
        self._work = work
        self._store = store
        self._notifier = notifier
        self._names = names
        self._put = put
        self._worker = worker
        self._every = every
        self._soon = asyncio.Event()
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def start(self) -> None:
        """Listen for answers."""
        await self._notifier.subscribe(self._names.work_channel, self._received)

    async def stop(self) -> None:
        """Listen no more."""
        await self._notifier.unsubscribe(self._names.work_channel, self._received)

    def search_soon(self) -> None:
        """A run or a group was stopped: its work may have no worker."""
        self._soon.set()

    def _received(self, message: bytes | None) -> None:
        if message is not None:
            self._answers.put_nowait(message)

    # --- asking ------------------------------------------------------------------------------------

    async def search_loop(self) -> None:
        """Ask about the work of the engines, for ever."""
        while True:
            try:
                async with asyncio.timeout(self._every):
                    await self._soon.wait()
            except TimeoutError:
                is_asked = False
            else:
                is_asked = True
                await asyncio.sleep(SOON_SECONDS)
                self._soon.clear()
            for engine in self._work.engines.outliving():
                await self._search(engine, is_asked)

    async def _search(self, engine: ProgramEngine, is_asked: bool) -> None:
        try:
            # One worker of the installation at a time; each of those that heard of a stop, because the one that
            # has the turn may not have.
            key = self._names.orphan_search(engine.kind)
            if not is_asked and (await self._store.claim([key], self._worker, self._every / 2))[0] != self._worker:
                return
            found = await engine.found(self._work.installation)
        except (EngineUnavailable, ServerUnavailable, StoreRefused) as error:
            log.warning("taskgroup worker: cannot look for %s programs without a member: %s", engine.kind, error)
            return
        by_run: dict[str, list[FoundExecution]] = {}
        for each in found:
            if each.handle not in self._work.held:
                by_run.setdefault(each.labels.get("run_id", ""), []).append(each)
        for works in by_run.values():
            for first in range(0, len(works), MAX_ASKED):
                self._ask(engine, works[first : first + MAX_ASKED])

    def _ask(self, engine: ProgramEngine, works: list[FoundExecution]) -> None:
        question = question_of(works, self._worker, engine.kind)
        if question is not None:
            self._put(Outgoing(self._names.groups, question.session_id, encode(question)))

    # --- answers -----------------------------------------------------------------------------------

    async def answer_loop(self) -> None:
        """Stop the work that owners do not need, for ever."""
        while True:
            answer = orjson.loads(await self._answers.get())
            if answer["worker"] != self._worker:
                continue
            for engine in self._work.engines.outliving():
                if engine.kind == answer["kind"]:
                    await asyncio.gather(*(self._stop(engine, handle) for handle in answer["handles"]))

    async def _stop(self, engine: ProgramEngine, handle: str) -> None:
        # Taken by an attempt of this worker since it was asked about: it is stopped with its member.
        if handle in self._work.held:
            return
        try:
            await engine.stop(handle, STOP_GRACE_SECONDS)
        except EngineUnavailable as error:
            log.warning(
                "taskgroup worker: cannot stop the program %s, which no member needs, until the next search: %s",
                handle,
                error,
            )
