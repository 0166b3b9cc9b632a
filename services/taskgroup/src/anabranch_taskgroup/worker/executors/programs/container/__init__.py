"""Containers: the engine of programs that speaks the Docker API, with Docker Engine or Podman."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from anabranch.runtime.process.extras import needs_extra
from anabranch.runtime.process.settings import Settings
from anabranch_taskgroup.worker.executors.programs.container.addresses import engine_address
from anabranch_taskgroup.worker.executors.programs.engine import ProgramEngine


def open_engine(settings: Settings) -> ProgramEngine:
    """Open the engine at `container_socket`, on the running event loop. It is first connected to by a request.

    Raises:
        Misconfigured: the socket's address has a wrong form, or the extra `executors` is not installed.
    """
    with needs_extra("executors", "the executor of containers"):
        from anabranch_taskgroup.worker.executors.programs.container.client import DockerClient
        from anabranch_taskgroup.worker.executors.programs.container.containers import Containers
        from anabranch_taskgroup.worker.executors.programs.container.engine import ContainerEngine
        from anabranch_taskgroup.worker.executors.programs.container.starter import ContainerStarter

    path = settings.container_auth_file

    async def credentials() -> bytes | None:
        # Read at each pull, because credentials of registries are replaced often.
        return None if path is None else await asyncio.to_thread(Path(path).read_bytes)

    client = DockerClient(engine_address(settings.container_socket, os.environ, os.path.exists))
    containers = Containers(client)
    return ContainerEngine(containers, ContainerStarter(containers, client, credentials), client.close)
