"""One PostgreSQL server as a process on a socket in a temporary folder: Debian's binaries, an unprivileged user.

The server refuses to run as root, and the folders of pytest are closed to others, so it has a folder of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from servers.finder import NamedServer
from servers.process import ServerHandle, ServerProcess, ServerUnavailableError

URL_VARIABLE = "ANABRANCH_TEST_POSTGRES_URL"
SETTINGS: Mapping[str, str] = {
    # Nothing outlives the tests, and a killed process loses nothing that it wrote to the kernel.
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
}
_USER = "anabranch"
_ACCOUNTS = ("postgres", "nobody")


def find_postgres() -> ServerHandle:
    """The server for the whole test run, not started yet: the one named in the environment, else a process.

    Raises ServerUnavailableError with the reason and the remedy if there is none.
    """
    if named := os.environ.get(URL_VARIABLE):
        if not postgres_answers(named):
            raise ServerUnavailableError(f"no PostgreSQL responds at {URL_VARIABLE}={named}")
        return NamedServer(named)
    return postgres_node()


def postgres_node(settings: Mapping[str, str] | None = None) -> ServerProcess:
    """A server with its files in a new folder; not started yet. `settings` override SETTINGS."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="anabranch-postgres-"))
    as_user, data = _unprivileged(folder), folder / "data"
    options = {**SETTINGS, **(settings or {}), "unix_socket_directories": str(folder)}
    address = f"postgresql://{_USER}@/postgres?host={folder}"

    def prepare() -> None:
        if (data / "PG_VERSION").exists():
            return
        if as_user:
            shutil.chown(folder, as_user, as_user)
            shutil.chown(data, as_user, as_user)
        command = [*_prefix(as_user), binaries / "initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8"]
        made = subprocess.run([*map(str, command), "--no-sync"], capture_output=True, text=True, cwd="/")
        if made.returncode != 0:
            raise ServerUnavailableError(f"initdb ended with code {made.returncode}: {made.stderr[-2000:]}")

    command = [*_prefix(as_user), str(binaries / "postgres"), "-D", str(data)]
    return PostgresProcess(
        name="postgresql",
        address=address,
        command=[*command, *(part for name, value in options.items() for part in ("-c", f"{name}={value}"))],
        directory=data,
        is_ready=lambda: postgres_answers(address),
        prepare=prepare,
        deadline_seconds=60,
    )


class PostgresProcess(ServerProcess):
    """A server that is killed at its stop: an orderly one waits for clients, and its folder is deleted anyway."""

    def kill(self) -> None:
        # Its "immediate" shutdown: without a checkpoint, as after a crash, but with all its processes, which would
        # serve their clients for a while after the death of the first.
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.directory.parent, ignore_errors=True)


def postgres_answers(address: str) -> bool:
    """True if the server at `address` responds to a query."""
    try:
        with psycopg.connect(address, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


@contextmanager
def fresh_database(address: str) -> Iterator[str]:
    """URL of a new database of the server at `address`, which is deleted afterwards."""
    name = f"test_{os.getpid()}_{os.urandom(4).hex()}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        try:
            parts = urlsplit(address)
            yield urlunsplit(parts._replace(path=f"/{name}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _binaries() -> Path:
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found is None and not folders:
        raise ServerUnavailableError(
            f"there is no PostgreSQL: install Debian's postgresql, or name a server in {URL_VARIABLE}"
        )
    return Path(found or folders[-1]).parent


def _unprivileged(folder: Path) -> str | None:
    """The account that the server runs as; None if that of the tests will do."""
    if os.geteuid() != 0:
        return None
    names = {each.pw_name for each in pwd.getpwall()}
    if shutil.which("setpriv") is None or names.isdisjoint(_ACCOUNTS):
        raise ServerUnavailableError("PostgreSQL does not run as root: install util-linux, or run as another user")
    folder.chmod(0o755)
    return next(each for each in _ACCOUNTS if each in names)


def _prefix(account: str | None) -> list[str]:
    if account is None:
        return []
    entry = pwd.getpwnam(account)
    as_account = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--"]
    # A change of the user clears the signal that the first `setpriv` has set.
    return [*as_account, "setpriv", "--pdeathsig", "KILL", "--"]
