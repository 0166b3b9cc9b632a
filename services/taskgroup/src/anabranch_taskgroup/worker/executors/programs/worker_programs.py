"""The programs of one worker: its engines, what attempts hold of them, and the search for orphans."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from anabranch.ports import Outgoing
from anabranch.runtime.process.resources import Resources
from anabranch_taskgroup.worker.executors.programs.engines import OpenEngine, ProgramEngines
from anabranch_taskgroup.worker.executors.programs.executor import ProgramWork
from anabranch_taskgroup.worker.executors.programs.orphans import Orphans

Spawn = Callable[[Coroutine[Any, Any, None], str], Any]


class WorkerPrograms:
    """See the module.

    Args:
        put: queues a record for publication.
        worker: the worker's incarnation.
    """

    def __init__(
        self, resources: Resources, opener: OpenEngine, put: Callable[[Outgoing], None], worker: str
    ) -> None:
        self._engines = ProgramEngines(resources.settings, opener)
        installation = resources.installation or resources.names.prefix
        self.work = ProgramWork(self._engines, installation, resources.clock)
        self._orphans = Orphans(
            self.work,
            resources.store,
            resources.notifier,
            resources.names,
            put,
            worker=worker,
            every=resources.settings.orphan_seconds,
        )
        self.outliving: frozenset[str] = frozenset()
        """The kinds whose work goes on when the worker ends."""

    def open(self) -> None:
        """Open the engines that are on.

        Raises:
            Misconfigured: a setting of an engine is wrong.
        """
        self._engines.open_all()
        self.outliving = frozenset(each.kind for each in self._engines.outliving())

    async def start(self, spawn: Spawn) -> None:
        """Search for orphans from now on, if an engine may have any."""
        if self.outliving:
            await self._orphans.start()
            spawn(self._orphans.search_loop(), "worker search for programs without a member")
            spawn(self._orphans.answer_loop(), "worker stops of programs without a member")

    def search_soon(self) -> None:
        """A run or group was stopped: its work may have no worker."""
        if self.outliving:
            self._orphans.search_soon()

    async def stop(self) -> None:
        """Close the engines: work that outlives the worker goes on, other work is killed."""
        if self.outliving:
            await self._orphans.stop()
        await self._engines.close()
