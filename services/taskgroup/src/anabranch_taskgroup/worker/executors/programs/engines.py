"""The engines of one worker, by kind: each is imported and opened once, where its kind is on."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from anabranch.runtime.process.settings import Settings
from anabranch.sdk.programs.spec import ProgramKind
from anabranch_taskgroup.worker.executors.programs.engine import ProgramEngine, ProgramRefused

log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
OpenEngine = Callable[[ProgramKind, Settings], ProgramEngine]


def open_engine(kind: ProgramKind, settings: Settings) -> ProgramEngine:
    """Open the engine of a kind, which imports what it needs.

    Raises:
        Misconfigured: a setting of the engine is wrong.
    """
    module = importlib.import_module(f"{__package__}.{kind}")
    return cast(ProgramEngine, module.open_engine(settings))


def places_of(settings: Settings) -> Mapping[str, int]:
    """How many programs of each kind that is on a worker runs at once."""
    places = {
        "process": settings.process_concurrency,
        "container": settings.container_concurrency,
        "kubernetes": settings.kubernetes_concurrency,
    }
    return {kind: places[kind] for kind in settings.executors}


class ProgramEngines:
    """The engines of the kinds that the settings turn on."""

    def __init__(self, settings: Settings, opener: OpenEngine = open_engine) -> None:
        self._settings = settings
        self._opener = opener
        self._open: dict[str, ProgramEngine] = {}

    def open_all(self) -> None:
        """Open the engines. Called on the event loop, before any program runs.

        Raises:
            Misconfigured: a setting of an engine is wrong.
        """
        for kind in self._settings.executors:
            self._open[kind] = self._opener(cast(ProgramKind, kind), self._settings)

    def of(self, kind: ProgramKind) -> ProgramEngine:
        """The engine of a kind.

        Raises:
            ProgramRefused: the kind is off.
        """
        engine = self._open.get(kind)
        if engine is None:
            raise ProgramRefused(
                f"this worker runs no program of the kind {kind}: ANABRANCH_EXECUTORS lists its kinds"
            )
        return engine

    def outliving(self) -> Iterator[ProgramEngine]:
        """The engines whose work goes on when the worker ends."""
        return (each for each in self._open.values() if each.outlives_worker)

    async def close(self) -> None:
        """Close the engines; those of processes kill what they run."""
        for kind, engine in self._open.items():
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await engine.close()
            except Exception as error:  # noqa: BLE001  # the worker ends in any case
                log.warning("taskgroup worker: cannot close the engine of %s programs: %s", kind, error)
