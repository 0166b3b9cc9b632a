"""Address file of `anabranch dev`: tells the other commands of the same user the URL of its gateway.

The file is in `$XDG_RUNTIME_DIR/anabranch`, else in `$XDG_STATE_HOME/anabranch` or `~/.local/state/anabranch`. It
has the address of the system that was started last. Commands ignore a file whose process has ended, or that other
users can write.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import orjson

FILE = "dev.json"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


@dataclass(frozen=True, slots=True)
class DevAddress:
    """A running `anabranch dev`: the URL of its gateway and its process."""

    url: str
    pid: int


def address_file_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Path of the address file."""
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "anabranch" / FILE
    state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return Path(state) / "anabranch" / FILE


@contextmanager
def publish_address(url: str, path: Path) -> Iterator[None]:
    """Write the address of this process into the file, and remove it when the context closes.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = DevAddress(_reachable(url), os.getpid())
    # Written beside the file and renamed: no reader sees a half-written address. `O_EXCL` refuses a link that
    # another user may have put there.
    fresh = path.with_name(f"{path.name}.{own.pid}")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(orjson.dumps(asdict(own), option=orjson.OPT_APPEND_NEWLINE))
    fresh.replace(path)
    try:
        yield
    finally:
        if _read(path) == own:  # not if a system that was started later has overwritten it
            path.unlink(missing_ok=True)


def live_address(path: Path) -> DevAddress | None:
    """The address in the file if its process is alive, else None."""
    found = _read(path)
    return found if found is not None and _is_alive(found.pid) else None


def _read(path: Path) -> DevAddress | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if not _is_own(path):
            return None
        document = orjson.loads(path.read_bytes())
        if isinstance(document["url"], str) and isinstance(document["pid"], int):
            return DevAddress(document["url"], document["pid"])
    return None


def _is_own(path: Path) -> bool:
    """True if only this user can write the file. Commands send requests and a key to the URL in it."""
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)  # signal 0 only checks that the process exists
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # the process is alive and belongs to another user
        return False
    return True


def _reachable(url: str) -> str:
    """The URL with this machine's own address where the server listens on every address."""
    parts = urlsplit(url)
    host = _WILDCARDS.get(parts.hostname or "")
    return url if host is None else urlunsplit(parts._replace(netloc=f"{host}:{parts.port}"))
