"""Runs programs as containers of an engine with the Docker API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress

from anabranch.core.bounded import BoundedDict
from anabranch.sdk.programs.spec import MAX_OUTPUT_BYTES, ProgramKind, ProgramSpec
from anabranch_taskgroup.worker.executors.programs.container.containers import Containers
from anabranch_taskgroup.worker.executors.programs.container.log_stream import LogCursor, StdoutCapture
from anabranch_taskgroup.worker.executors.programs.container.outcomes import (
    ContainerState,
    ended_outcome,
    remaining_seconds,
)
from anabranch_taskgroup.worker.executors.programs.container.request_bodies import (
    EXECUTION_LABEL,
    LABEL_PREFIX,
    OUTPUT_PATH,
    execution_labels,
)
from anabranch_taskgroup.worker.executors.programs.container.starter import ContainerStarter
from anabranch_taskgroup.worker.executors.programs.engine import (
    EngineUnavailable,
    Execution,
    FoundExecution,
    LineSink,
    ProgramOutcome,
)

DEADLINE_GRACE_SECONDS = 10.0
"""Time between TERM and KILL for a container that has reached its timeout."""
LOOK_SECONDS = 0.5
"""Pause before a container is inspected again, which should have ended or begun by now."""
MAX_LOOKS = 20
"""Inspections after which a container that was created and not started counts as left by its worker."""
LOG_RETRY_SECONDS = 1.0
"""Pause before the log is read again after a broken connection."""
MAX_CURSORS = 4096
"""Positions in logs that are kept, so that a caller that follows again gets no line twice."""


class ContainerEngine:
    """See `ProgramEngine`. A handle is the name of the execution and the id of its container, `name/id`. Only
    workers with the same engine find it."""

    def __init__(
        self, containers: Containers, starter: ContainerStarter, close: Callable[[], Awaitable[None]]
    ) -> None:
        self._containers = containers
        self._starter = starter
        self._close = close
        self._cursors: BoundedDict[str, LogCursor] = BoundedDict(MAX_CURSORS)

    @property
    def kind(self) -> ProgramKind:
        """See `ProgramEngine`."""
        return "container"

    @property
    def outlives_worker(self) -> bool:
        """See `ProgramEngine`."""
        return True

    async def start(self, execution: Execution) -> str:
        """See `ProgramEngine`."""
        return _handle(execution.name, await self._starter.start(execution))

    async def follow(self, handle: str, spec: ProgramSpec, on_line: LineSink) -> ProgramOutcome:
        """See `ProgramEngine`."""
        container = _container_of(handle)
        cursor = self._cursors.setdefault(handle, LogCursor())
        reader = asyncio.create_task(self._follow_log(container, cursor, on_line), name=f"log of {handle}")
        try:
            state, was_stopped = await self._ended(container, spec)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if state is None:
            return await self._gone(handle)
        await self._read_log(container, cursor, on_line, is_followed=False)
        for stream, line in cursor.end():
            on_line(stream, line)
        outcome = ended_outcome(state, spec, was_stopped=was_stopped)
        return await self._with_output(container, spec, outcome) if outcome == ProgramOutcome(0) else outcome

    async def _ended(self, container: str, spec: ProgramSpec) -> tuple[ContainerState | None, bool]:
        """The state of a container that has ended, None if it is gone, and whether its timeout ended it."""
        was_stopped = False
        looks = 0
        while True:
            found = await self._containers.inspected(container)
            if found is None:
                return None, was_stopped
            state, now = found
            if state.has_ended or (not state.has_started and looks >= MAX_LOOKS):
                return state, was_stopped
            if looks:
                await asyncio.sleep(LOOK_SECONDS)
            looks += 1
            left = remaining_seconds(state, spec.timeout, now)
            try:
                async with asyncio.timeout(left):
                    await self._containers.wait(container)
            except TimeoutError:
                was_stopped = True
                await self._containers.stop(container, DEADLINE_GRACE_SECONDS)

    async def _follow_log(self, container: str, cursor: LogCursor, on_line: LineSink) -> None:
        """Pass on lines until it is cancelled: whether the container has ended is known elsewhere."""
        while True:
            with suppress(EngineUnavailable):
                await self._read_log(container, cursor, on_line, is_followed=True)
            await asyncio.sleep(LOG_RETRY_SECONDS)

    async def _read_log(self, container: str, cursor: LogCursor, on_line: LineSink, *, is_followed: bool) -> None:
        parameters = {
            "stdout": "true",
            "stderr": "true",
            "timestamps": "true",
            "follow": "true" if is_followed else "false",
            "since": str(cursor.resume()),
        }
        async with aclosing(self._containers.log(container, parameters)) as chunks:
            async for chunk in chunks:
                for stream, line in cursor.feed(chunk):
                    on_line(stream, line)

    async def _with_output(self, container: str, spec: ProgramSpec, outcome: ProgramOutcome) -> ProgramOutcome:
        if spec.output == "file":
            output = await self._containers.file(container, OUTPUT_PATH, MAX_OUTPUT_BYTES)
        else:
            capture = StdoutCapture(MAX_OUTPUT_BYTES, is_last_line=spec.output == "last-line")
            async for chunk in self._containers.log(container, {"stdout": "true", "stderr": "false"}):
                capture.feed(chunk)
            result = capture.result()
            output = "too large" if result is None else result
        if output == "too large":
            return ProgramOutcome(
                0,
                "OutputTooLarge",
                f"the result has more than {MAX_OUTPUT_BYTES / 2**20:g} MiB; write it to storage of your own, and "
                "return where it is",
                is_permanent=True,
            )
        if output == "no file":
            return ProgramOutcome(
                0, "OutputNotAFile", f"{OUTPUT_PATH} is a link or a folder; write a file", is_permanent=True
            )
        return ProgramOutcome(0, output=output)

    async def _gone(self, handle: str) -> ProgramOutcome:
        machine = await self._containers.engine_name()
        return ProgramOutcome(
            None,
            "Gone",
            f"the container of {handle} does not exist on the engine of {machine}: it was removed, or was "
            "started by a worker with another engine. Give the workers of each engine a pool of their own",
        )

    async def stop(self, handle: str, grace: float) -> None:
        """See `ProgramEngine`."""
        await self._containers.stop(_container_of(handle), grace)
        await self.remove(handle)

    async def remove(self, handle: str) -> None:
        """See `ProgramEngine`."""
        self._cursors.pop(handle, None)
        container = _container_of(handle)
        self._starter.forget(container)
        await self._containers.remove(container)

    async def found(self, installation: str) -> Sequence[FoundExecution]:
        """See `ProgramEngine`. A container that was created and not started yet counts as running."""
        return [
            FoundExecution(
                _handle(each.labels[EXECUTION_LABEL], each.id),
                execution_labels(each.labels),
                each.status not in ("exited", "dead", "stopped"),
            )
            for each in await self._containers.listed(f"{LABEL_PREFIX}installation", installation)
            if EXECUTION_LABEL in each.labels
        ]

    async def close(self) -> None:
        """See `ProgramEngine`."""
        await self._starter.close()
        await self._close()


def _handle(execution: str, container: str) -> str:
    return f"{execution}/{container}"


def _container_of(handle: str) -> str:
    return handle.rpartition("/")[2]
