"""The containers of an in-process Docker engine: programs run as processes of this machine, without confinement.

It is honest about state, where a simpler stand-in would hide mistakes: a container that has ended can be started
again, a name is taken until its container is removed or renamed, `wait` returns at once for a container that was
never started, and a log keeps its entries as the engine cuts them.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import shutil
import signal
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ENTRY_BYTES = 16 * 1024
_NEVER = "0001-01-01T00:00:00Z"


class Refusal(Exception):
    """An answer that is a failure."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Entry:
    """An entry of a log: a line, or a part of one without a line break."""

    time: datetime
    stream: int
    data: bytes


@dataclass
class Container:
    """A container, as the engine keeps it."""

    id: str
    name: str
    body: dict[str, Any]
    volume: Path
    created: datetime
    status: str = "created"
    exit_code: int = 0
    is_oom: bool = False
    error: str = ""
    starts: int = 0
    started: datetime | None = None
    finished: datetime | None = None
    log: list[Entry] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    stdin: asyncio.StreamReader | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def document(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "State": {
                "Status": self.status,
                "ExitCode": self.exit_code,
                "OOMKilled": self.is_oom,
                "Error": self.error,
                "StartedAt": _text(self.started),
                "FinishedAt": _text(self.finished),
            },
        }

    def place(self, path: str) -> Path:
        """Where a path of the container is here."""
        if not path.startswith("/anabranch"):
            raise Refusal(400, "container rootfs is marked read-only")
        return self.volume / path.removeprefix("/anabranch").lstrip("/")


def _text(time: datetime | None) -> str:
    return _NEVER if time is None else time.isoformat().replace("+00:00", "Z")


class ContainerHost:
    """The containers, images and networks of one engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.containers: dict[str, Container] = {}
        self.images = {"tests/shell:latest"}
        self.networks = {"none", "bridge"}
        self.pulled: list[tuple[str, str, str | None]] = []
        self.pull_error: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)

    def get(self, name: str) -> Container:
        for each in self.containers.values():
            if name in (each.id, each.name):
                return each
        raise Refusal(404, f"No such container: {name}")

    def create(self, name: str, body: dict[str, Any]) -> Container:
        image = body["Image"] if ":" in body["Image"].rpartition("/")[2] else f"{body['Image']}:latest"
        if image not in self.images:
            raise Refusal(404, f"No such image: {image}")
        if any(each.name == name for each in self.containers.values()):
            raise Refusal(409, f'Conflict. The container name "/{name}" is already in use by container "x".')
        number = next(self._ids)
        volume = self.folder / f"volume-{number}"
        volume.mkdir(parents=True)
        container = Container(f"{number:064x}", name, body, volume, datetime.now(UTC))
        self.containers[container.id] = container
        return container

    def rename(self, container: Container, name: str) -> None:
        if any(each.name == name for each in self.containers.values()):
            raise Refusal(409, f'Conflict. The container name "/{name}" is already in use.')
        container.name = name

    def extract(self, container: Container, path: str, archive: bytes) -> None:
        place = container.place(path)
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            # The argument `filter` of `extractall` needs Python 3.11.4.
            members.extraction_filter = lambda member, _: member
            members.extractall(place)

    def archive(self, container: Container, path: str) -> bytes:
        place = container.place(path)
        if not os.path.lexists(place):
            raise Refusal(404, f"Could not find the file {path} in container {container.id}")
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as members:
            members.add(place, arcname=place.name, recursive=False)
        return file.getvalue()

    async def start(self, container: Container) -> bool:
        """Start a container that does not run, again if it has ended; False if it runs."""
        if container.status == "running":
            return False
        network = container.body["HostConfig"]["NetworkMode"]
        if network not in self.networks:
            raise Refusal(404, f"network {network} not found")
        command = [*(container.body.get("Entrypoint") or ["true"]), *(container.body.get("Cmd") or [])]
        variables = dict(each.split("=", 1) for each in container.body["Env"])
        try:
            container.process = await asyncio.create_subprocess_exec(
                *command,
                env={"PATH": os.environ["PATH"]}
                | {name: self._here(container, at) for name, at in variables.items()},
                stdin=asyncio.subprocess.PIPE if container.body.get("OpenStdin") else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            container.exit_code = 127 if isinstance(error, FileNotFoundError) else 126
            reason = "executable file not found in $PATH" if container.exit_code == 127 else "permission denied"
            container.error = (
                f'OCI runtime create failed: runc create failed: exec: "{command[0]}": {reason}: unknown'
            )
            raise Refusal(400, f"failed to create task for container: {container.error}") from error
        container.status = "running"
        container.starts += 1
        container.started, container.finished = datetime.now(UTC), None
        self.in_background(self._run(container, container.process))
        return True

    def _here(self, container: Container, value: str) -> str:
        return str(container.place(value)) if value.startswith("/anabranch/") else value

    async def _run(self, container: Container, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdin is not None:
            self.in_background(self._pass_stdin(container, process.stdin))
        await asyncio.gather(self._keep(container, 1, process.stdout), self._keep(container, 2, process.stderr))
        code = await process.wait()
        container.exit_code = code if code >= 0 else 128 - code
        container.status, container.finished = "exited", datetime.now(UTC)
        container.tell()

    async def _pass_stdin(self, container: Container, stdin: asyncio.StreamWriter) -> None:
        # As with StdinOnce: open until the connection that is attached ends.
        while container.stdin is None:
            await container.changed.wait()
        try:
            while data := await container.stdin.read(ENTRY_BYTES):
                stdin.write(data)
                await stdin.drain()
        except OSError:
            pass
        stdin.close()

    async def _keep(self, container: Container, stream: int, output: asyncio.StreamReader) -> None:
        rest = b""
        while data := await output.read(ENTRY_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for each in (*(line + b"\n" for line in lines),):
                self._append(container, stream, each)
            while len(rest) >= ENTRY_BYTES:
                self._append(container, stream, rest[:ENTRY_BYTES])
                rest = rest[ENTRY_BYTES:]
        if rest:
            self._append(container, stream, rest)

    def _append(self, container: Container, stream: int, data: bytes) -> None:
        for start in range(0, len(data), ENTRY_BYTES):
            container.log.append(Entry(datetime.now(UTC), stream, data[start : start + ENTRY_BYTES]))
        container.tell()

    async def wait(self, container: Container) -> int:
        while container.status == "running":
            await container.changed.wait()
        return container.exit_code

    async def stop(self, container: Container, seconds: float) -> bool:
        """TERM, then KILL; False if it does not run."""
        if container.status != "running":
            return False
        self.kill(container, signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(container), seconds)
        except TimeoutError:
            self.kill(container, signal.SIGKILL)
            await self.wait(container)
        return True

    def kill(self, container: Container, number: int) -> None:
        if container.process is not None and container.process.returncode is None:
            os.killpg(container.process.pid, number)

    async def remove(self, container: Container, *, is_forced: bool) -> None:
        if container.status == "running":
            if not is_forced:
                raise Refusal(409, f"cannot remove container {container.name}: container is running")
            self.kill(container, signal.SIGKILL)
            await self.wait(container)
        if self.containers.pop(container.id, None) is not None:
            shutil.rmtree(container.volume)
        container.status = "removed"
        container.tell()

    def in_background(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for container in self.containers.values():
            self.kill(container, signal.SIGKILL)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
