"""Starts the container of an execution once, whichever workers try to, and whenever they stop or freeze."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

from anabranch.core.bounded import BoundedDict
from anabranch_taskgroup.worker.executors.programs.container.client import Answer, DockerClient
from anabranch_taskgroup.worker.executors.programs.container.containers import Containers, ListedContainer
from anabranch_taskgroup.worker.executors.programs.container.images import parse_image, registry_auth
from anabranch_taskgroup.worker.executors.programs.container.options import ContainerOptions, read_options
from anabranch_taskgroup.worker.executors.programs.container.outcomes import (
    StartError,
    pull_is_refused,
    start_error,
)
from anabranch_taskgroup.worker.executors.programs.container.request_bodies import (
    EXECUTION_LABEL,
    VOLUME_PATH,
    container_body,
    fence_of,
    input_archive,
    next_name,
)
from anabranch_taskgroup.worker.executors.programs.engine import (
    EngineUnavailable,
    Execution,
    ProgramNotStarted,
    ProgramRefused,
)

MAX_ROUNDS = 20
"""Attempts to find or create the container of an execution, while other workers do the same."""
TAKEOVER_SECONDS = 1.0
"""Time that the worker which created a container has to start it, before another one takes it over. Without it,
workers that start one execution at once would take it from each other again and again."""
MAX_PULLS = 256
"""Images whose pulls are kept apart."""


class ContainerStarter:
    """Creates, or adopts, and starts the container of an execution.

    A container that has ended can be started again through the API, so a worker must not start one that another
    has started. The name of a container is the fence against that: a worker only starts a container under the name
    that it gave it. Before it starts a container that another worker has created, it renames the container.

    Args:
        credentials: reads the file with the registries' credentials; None if there is none.
    """

    def __init__(
        self, containers: Containers, client: DockerClient, credentials: Callable[[], Awaitable[bytes | None]]
    ) -> None:
        self._containers = containers
        self._client = client
        self._credentials = credentials
        self._pulls: BoundedDict[str, asyncio.Lock] = BoundedDict(MAX_PULLS)
        self._writers: dict[str, asyncio.Task[None]] = {}

    async def start(self, execution: Execution) -> str:
        """Start the container of an execution, or find the one that was started.

        Returns:
            Its id.

        Raises:
            ProgramRefused, ProgramNotStarted, EngineUnavailable: see `ProgramEngine`.
        """
        options = read_options(execution.spec.options)
        if parse_image(execution.spec.image or "") is None:
            raise ProgramRefused(f"image: {execution.spec.image!r} is not the name of an image")
        if options.pull == "always":
            await self._pull(execution.spec.image or "")
        name, seen = execution.name, ""
        for _ in range(MAX_ROUNDS):
            created = await self._created(name, execution, options)
            container = await self._chosen(execution.name)
            if container is None:
                continue
            if created is not None and created != container.id:
                # Another worker has one already. This one was never started, so nothing of it runs.
                await self._containers.remove(created)
            if container.status != "created":
                return container.id
            if created != container.id:
                if container.name != seen:
                    seen = container.name
                    await asyncio.sleep(TAKEOVER_SECONDS)
                    continue
                name = next_name(execution.name, container.name)
                if not await self._containers.rename(container.name, name):
                    continue
                if execution.spec.input == "stdin":
                    # The worker that created it may be attached to its stdin, and have written a part.
                    await self._containers.remove(container.id)
                    name = next_name(execution.name, name)
                    continue
            if await self._started(name, container.id, execution):
                return container.id
        raise ProgramNotStarted(
            f"the container {execution.name} could not be started in {MAX_ROUNDS} attempts: others create, rename "
            f"or remove it meanwhile, or one of this name has no label {EXECUTION_LABEL}; remove that one"
        )

    async def _chosen(self, execution: str) -> ListedContainer | None:
        """The container of an execution: one that was started, else the one with the highest fence."""
        found = await self._containers.listed(EXECUTION_LABEL, execution)
        return min(
            found, key=lambda each: (each.status == "created", -fence_of(execution, each.name)), default=None
        )

    async def _created(self, name: str, execution: Execution, options: ContainerOptions) -> str | None:
        """Create a container; its id, or None if the name is taken."""
        body = container_body(execution, options)
        answer = await self._containers.create(name, body)
        if not answer.is_success and start_error(answer.status, answer.message) is StartError.NO_IMAGE:
            if options.pull == "never":
                raise ProgramRefused(
                    f"the image {execution.spec.image} is not on the engine, and options.pull is never: load it "
                    "there"
                )
            await self._pull(execution.spec.image or "")
            answer = await self._containers.create(name, body)
        if answer.is_success:
            return str(answer.json()["Id"])
        if start_error(answer.status, answer.message) is StartError.NAME_TAKEN:
            return None
        return _refuse(answer, f"create a container of {execution.spec.image}")

    async def _started(self, name: str, container: str, execution: Execution) -> bool:
        """Start a container under its name; False if it has another name by now, or is gone."""
        answer = await self._containers.extract(name, VOLUME_PATH, input_archive(execution.inputs))
        if answer.is_success:
            if execution.spec.input == "stdin" and not await self._attached(name, container, execution.inputs):
                return False
            answer = await self._containers.start(name)
            if answer.is_success:
                return True
        if start_error(answer.status, answer.message) in (StartError.NO_CONTAINER, StartError.NAME_TAKEN):
            return False
        self.forget(container)
        await self._containers.remove(container)
        return _refuse(
            answer, f"start {execution.spec.command[0] if execution.spec.command else 'the container'!r}"
        )

    async def _attached(self, name: str, container: str, inputs: bytes) -> bool:
        try:
            reader, writer = await self._client.attach_stdin(name)
        except FileNotFoundError:
            return False
        self.forget(container)
        self._writers[container] = asyncio.create_task(_write(reader, writer, inputs), name=f"stdin of {name}")
        return True

    async def _pull(self, image: str) -> None:
        """Pull an image, once for all executions that wait for it."""
        parsed = parse_image(image)
        assert parsed is not None
        lock = self._pulls.setdefault(image, asyncio.Lock())
        was_waiting = lock.locked()
        async with lock:
            if was_waiting:
                return
            try:
                config = await self._credentials()
                credentials = None if config is None else registry_auth(config, parsed.registry)
            except (OSError, ValueError) as error:
                raise ProgramNotStarted(f"ANABRANCH_CONTAINER_AUTH_FILE: {error}") from error
            problem = await self._containers.pull(parsed, credentials)
        if problem is None:
            return
        if pull_is_refused(problem):
            raise ProgramRefused(
                f"the image {image} could not be pulled: {problem}. Correct its name, or give the worker "
                f"credentials of {parsed.registry} in ANABRANCH_CONTAINER_AUTH_FILE"
            )
        raise ProgramNotStarted(
            f"the image {image} could not be pulled: {problem}. The engine's machine has to reach "
            f"{parsed.registry}, or to have the image already"
        )

    def forget(self, container: str) -> None:
        """Close the connection to a container's stdin."""
        task = self._writers.pop(container, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Close all connections to stdin of containers."""
        tasks = list(self._writers.values())
        for container in list(self._writers):
            self.forget(container)
        await asyncio.gather(*tasks, return_exceptions=True)


async def _write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write stdin and end it. The connection stays until the engine closes it: an engine may drop what it has not
    passed on when it closes first."""
    try:
        # A program may end without reading its stdin.
        with suppress(OSError):
            writer.write(data)
            await writer.drain()
            writer.write_eof()
            while await reader.read(1024):
                pass
    finally:
        writer.close()


def _refuse(answer: Answer, action: str) -> NoReturn:
    text = f"the container engine could not {action}: {answer.message}"
    match start_error(answer.status, answer.message):
        case StartError.ENGINE_BUSY:
            raise EngineUnavailable(text)
        case StartError.PERMANENT:
            raise ProgramRefused(text)
        case _:
            raise ProgramNotStarted(text)
