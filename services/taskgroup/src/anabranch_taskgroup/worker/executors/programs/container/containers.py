"""The engine's containers: one method for each operation of the API that the executor uses."""

from __future__ import annotations

import io
import math
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

from anabranch_taskgroup.worker.executors.programs.container.client import CHUNK_BYTES, Answer, DockerClient
from anabranch_taskgroup.worker.executors.programs.container.images import ImageName
from anabranch_taskgroup.worker.executors.programs.container.outcomes import ContainerState, read_state
from anabranch_taskgroup.worker.executors.programs.engine import EngineUnavailable

STOP_MARGIN_SECONDS = 60
"""Time for the answer to a stop, beyond the grace period."""
_ARCHIVE_OVERHEAD = 16 * 1024
"""Bytes of a tar archive of one file beyond its content, with room for extended headers."""
_Unreadable = Literal["too large", "no file"]


@dataclass(frozen=True, slots=True)
class ListedContainer:
    """A container in the engine's list.

    Attributes:
        created: seconds since 1970.
    """

    id: str
    name: str
    status: str
    created: float
    labels: Mapping[str, str]


class Containers:
    """Operations on the containers and images of one engine.

    Raises:
        EngineUnavailable: from every operation, if the engine does not answer, or answers that it cannot now.
    """

    def __init__(self, client: DockerClient) -> None:
        self._client = client

    async def create(self, name: str, body: Mapping[str, Any]) -> Answer:
        """Create a container; the answer of any status."""
        return await self._client.request("POST", "/containers/create", parameters={"name": name}, document=body)

    async def start(self, name: str) -> Answer:
        """Start a container, by its present name; the answer of any status."""
        return await self._client.request("POST", f"/containers/{name}/start")

    async def rename(self, name: str, new_name: str) -> bool:
        """Rename a container; False if none has this name any more, or one has the new name."""
        answer = await self._client.request("POST", f"/containers/{name}/rename", parameters={"name": new_name})
        if answer.status >= 500 and "already in use" not in answer.message:
            raise _unavailable(answer, f"rename {name}")
        return answer.is_success

    async def extract(self, name: str, path: str, archive: bytes) -> Answer:
        """Extract a tar archive into a folder of a container; the answer of any status."""
        return await self._client.request(
            "PUT", f"/containers/{name}/archive", parameters={"path": path}, data=archive
        )

    async def listed(self, label: str, value: str) -> Sequence[ListedContainer]:
        """The containers with a label, in any state, the oldest first."""
        filters = orjson.dumps({"label": [f"{label}={value}"]}).decode()
        answer = await self._client.request(
            "GET", "/containers/json", parameters={"all": "true", "filters": filters}
        )
        found = [
            ListedContainer(
                id=str(each["Id"]),
                name=str(each["Names"][0]).removeprefix("/") if each.get("Names") else str(each["Id"]),
                status=str(each.get("State", "")).lower(),
                created=float(each.get("Created") or 0),
                labels=each.get("Labels") or {},
            )
            for each in _expected(answer, "list containers").json()
        ]
        return sorted(found, key=lambda each: (each.created, each.id))

    async def inspected(self, container: str) -> tuple[ContainerState, datetime | None] | None:
        """The state of a container, and the engine's time; None if it is gone."""
        answer = await self._client.request("GET", f"/containers/{container}/json")
        if _is_gone(answer):
            return None
        return read_state(_expected(answer, f"inspect {container}").json()), answer.time

    async def wait(self, container: str) -> None:
        """Wait until a container does not run, without a limit of time. Returns at once if it is gone."""
        answer = await self._client.request("POST", f"/containers/{container}/wait", seconds=None)
        if not _is_gone(answer):
            _expected(answer, f"wait for {container}")

    async def stop(self, container: str, grace: float) -> None:
        """Send TERM, and KILL after `grace` seconds. Returns once it does not run."""
        seconds = math.ceil(grace)
        answer = await self._client.request(
            "POST",
            f"/containers/{container}/stop",
            parameters={"t": str(seconds)},
            seconds=seconds + STOP_MARGIN_SECONDS,
        )
        # Podman refuses to stop what was never started, which is as good as stopped.
        if answer.status >= 500 and "state improper" not in answer.message and not _is_gone(answer):
            raise _unavailable(answer, f"stop {container}")

    async def remove(self, container: str) -> None:
        """Remove a container with its volume, running or not. Nothing if it is gone."""
        answer = await self._client.request(
            "DELETE", f"/containers/{container}", parameters={"force": "true", "v": "true"}
        )
        # 409: another request removes it already.
        if answer.status != 409 and not _is_gone(answer):
            _expected(answer, f"remove {container}")

    async def log(self, container: str, parameters: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """The log in chunks, as it is received. Empty if the container is gone."""
        async with self._client.stream(f"/containers/{container}/logs", parameters) as response:
            if response.status >= 400:
                failure = await _failure(response)
                if _is_gone(failure):
                    return
                raise _unavailable(failure, f"read the log of {container}")
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                yield chunk

    async def file(self, container: str, path: str, limit: int) -> bytes | _Unreadable | None:
        """The content of a file of a container, which may have ended; None if there is no such file."""
        archive = bytearray()
        async with self._client.stream(f"/containers/{container}/archive", {"path": path}) as response:
            if response.status == 404:
                return None
            if response.status >= 400:
                raise _unavailable(await _failure(response), f"read {path} of {container}")
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                archive += chunk
                if len(archive) > limit + _ARCHIVE_OVERHEAD:
                    return "too large"
        content = _only_file(bytes(archive))
        return content if content is None or len(content) <= limit else "too large"

    async def pull(self, image: ImageName, credentials: str | None) -> str | None:
        """Pull an image; the reason if it could not be pulled."""
        parameters = {"fromImage": image.repository, "tag": image.version}
        headers = {} if credentials is None else {"X-Registry-Auth": credentials}
        async with self._client.stream("/images/create", parameters, method="POST", headers=headers) as response:
            if response.status >= 400:
                return (await _failure(response)).message
            return await _pull_error(response.content.iter_chunked(CHUNK_BYTES))

    async def engine_name(self) -> str:
        """The name of the engine's machine."""
        answer = await self._client.request("GET", "/info")
        return str(_expected(answer, "ask for its name").json().get("Name") or "")


def _only_file(archive: bytes) -> bytes | Literal["no file"]:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            first = members.next()
            file = None if first is None or not first.isreg() else members.extractfile(first)
            return "no file" if file is None else file.read()
    except tarfile.TarError:
        return "no file"


async def _pull_error(chunks: AsyncIterator[bytes]) -> str | None:
    """The error in the progress of a pull: a document a line, of which the last has the error."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if (error := _line_error(line)) is not None:
                return error
    return _line_error(rest)


def _line_error(line: bytes) -> str | None:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    error = document.get("error") if isinstance(document, dict) else None
    return str(error) if error else None


async def _failure(response: Any) -> Answer:
    return Answer(response.status, await response.read(), response.headers, None)


def _is_gone(answer: Answer) -> bool:
    # Podman answers 500 where it lost the race against a removal.
    return answer.status == 404 or (answer.status >= 500 and "no such container" in answer.message)


def _expected(answer: Answer, action: str) -> Answer:
    if not answer.is_success:
        raise _unavailable(answer, action)
    return answer


def _unavailable(answer: Answer, action: str) -> EngineUnavailable:
    return EngineUnavailable(f"the container engine could not {action}: {answer.message} (status {answer.status})")
