"""API keys: `anb_<id>_<secret>`. The key file has only the SHA-256 of each secret; it is reloaded when it changes.

    keys:
      - {id: 3f9c0a1b2c3d, sha256: <64 hex digits>, role: submitter, projects: [shop], name: nightly job}
      - {id: ..., sha256: ..., role: operator, projects: "*"}

A secret has 256 random bits, so a plain hash without salt cannot be reversed by guessing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from anabranch.core.errors import Misconfigured
from anabranch.core.project import project_problem
from anabranch.ports import Clock
from anabranch_gateway.access.callers import ROLES, Caller, Role

KEY_PREFIX = "anb_"
POLL_SECONDS = 2.0
"""Minimum seconds between two checks whether the file has changed."""
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_FIELDS = frozenset({"id", "sha256", "role", "projects", "name"})


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of the key file. `projects` is None for access to every project."""

    id: str
    sha256: str
    role: Role
    projects: frozenset[str] | None
    name: str = ""

    def caller(self) -> Caller:
        """The caller that authenticates with this key."""
        return Caller(f"key:{self.id}", self.role, self.projects)

    def to_document(self) -> dict[str, Any]:
        """The entry of the key file."""
        projects: Any = "*" if self.projects is None else sorted(self.projects)
        entry = {"id": self.id, "sha256": self.sha256, "role": self.role, "projects": projects}
        return entry | ({"name": self.name} if self.name else {})


def new_key(
    role: Role, projects: Sequence[str], name: str, random_bytes: Callable[[int], bytes]
) -> tuple[str, Key]:
    """A new key as text, which is shown only once, and its entry for the key file.

    Args:
        projects: names of projects; `*` for all.
        random_bytes: returns this number of random bytes.

    Raises:
        ValueError: a name cannot be a project's.
    """
    if "*" not in projects:
        for project in projects:
            if (problem := project_problem(project)) is not None:
                raise ValueError(problem)
    key_id = random_bytes(6).hex()
    secret = base64.urlsafe_b64encode(random_bytes(32)).decode().rstrip("=")
    digest = hashlib.sha256(secret.encode()).hexdigest()
    allowed = None if "*" in projects else frozenset(projects)
    return f"{KEY_PREFIX}{key_id}_{secret}", Key(key_id, digest, role, allowed, name)


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file by id.

    Raises:
        Misconfigured: the file cannot be read, or an entry is invalid; the message never has a secret.
    """
    where = f"gateway_keys: {path}"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(where, f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        raise Misconfigured(where, "is not valid YAML", "see: anabranch keys create") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise Misconfigured(where, "has no list `keys`", "see: anabranch keys create")
    found: dict[str, Key] = {}
    for number, entry in enumerate(entries):
        key = _key(entry, f"{where}: keys[{number}]")
        if key.id in found:
            raise Misconfigured(f"{where}: keys[{number}]", f"the id {key.id} occurs twice")
        found[key.id] = key
    return found


def _key(entry: Any, where: str) -> Key:
    if not isinstance(entry, dict) or not {"id", "sha256", "role", "projects"} <= entry.keys() <= _FIELDS:
        raise Misconfigured(where, "is not a key", "a key has id, sha256, role, projects and optionally name")
    if not _ID.fullmatch(str(entry["id"])) or not _HASH.fullmatch(str(entry["sha256"])):
        raise Misconfigured(
            where,
            "id or sha256 is invalid",
            "sha256 has 64 hexadecimal digits; quote a value of digits only",
        )
    if entry["role"] not in ROLES:
        raise Misconfigured(where, f"role must be one of {', '.join(ROLES)}")
    return Key(
        str(entry["id"]),
        entry["sha256"],
        entry["role"],
        _projects(entry["projects"], where),
        str(entry.get("name") or ""),
    )


def _projects(value: Any, where: str) -> frozenset[str] | None:
    if value == "*":
        return None
    if not isinstance(value, list) or not all(
        isinstance(each, str) and not project_problem(each) for each in value
    ):
        raise Misconfigured(where, 'projects must be a list of names, or "*"')
    return frozenset(value)


class KeyRing:
    """The keys of a file, reloaded when it changes. If the file becomes invalid, the last valid keys stay in use.

    Args:
        path: the key file.
        warn: called with a message if a changed file is invalid.
    """

    def __init__(self, path: Path, clock: Clock, warn: Callable[[str], None]) -> None:
        self._path = path
        self._clock = clock
        self._warn = warn
        self._keys = read_keys(path)
        self._stamp = _stamp(path)
        self._checked_at = clock.monotonic()

    @classmethod
    def load(cls, path: str, clock: Clock, warn: Callable[[str], None]) -> Self:
        """The keys of the file at `path`. Raises Misconfigured if it is invalid."""
        return cls(Path(path), clock, warn)

    def caller(self, token: str) -> Caller | None:
        """The caller that a key belongs to; None for an unknown key."""
        self._reload_if_changed()
        # At the first underscore: an id has none, but a secret in base64 may have some.
        key_id, _, secret = token.removeprefix(KEY_PREFIX).partition("_")
        key = self._keys.get(key_id)
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
        # Compared in constant time, also for an unknown id: the time to answer must not say which ids exist.
        if not hmac.compare_digest(digest, key.sha256 if key is not None else "0" * 64) or key is None:
            return None
        return key.caller()

    def _reload_if_changed(self) -> None:
        now = self._clock.monotonic()
        if now - self._checked_at < POLL_SECONDS:
            return
        self._checked_at = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        # Set before the file is read, so that an invalid file is reported once and not at each check.
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
        except Misconfigured as error:
            self._warn(f"the gateway keeps its last valid keys, the changed key file is invalid: {error}")


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # The size too: two changes within the resolution of the file system's clock have the same time.
    return found.st_mtime_ns, found.st_size
