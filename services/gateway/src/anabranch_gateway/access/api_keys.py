"""API keys: `anb_<id>_<secret>`. The file holds the SHA-256 of each secret only; it is read again when it changes.

    keys:
      - {id: 3f9c0a1b2c3d, sha256: <64 hex digits>, role: submitter, projects: [shop], name: nightly job}
      - {id: ..., sha256: ..., role: operator, projects: "*"}

A secret has 256 random bits, so that a plain hash of it cannot be turned around.
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
from anabranch_gateway.access.auth import ROLES, Caller, Role

LEAD = "anb_"
POLL_SECONDS = 2.0
"""So often at most it is looked whether the file has changed."""
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")
_FIELDS = frozenset({"id", "sha256", "role", "projects", "name"})


@dataclass(frozen=True, slots=True)
class Key:
    """One key as the file has it. `projects` is None for all of them."""

    id: str
    sha256: str
    role: Role
    projects: frozenset[str] | None
    name: str = ""

    def caller(self) -> Caller:
        return Caller(f"key:{self.id}", self.role, self.projects)

    def to_document(self) -> dict[str, Any]:
        """The entry of the file."""
        projects: Any = "*" if self.projects is None else sorted(self.projects)
        entry = {"id": self.id, "sha256": self.sha256, "role": self.role, "projects": projects}
        return entry | ({"name": self.name} if self.name else {})


def new_key(
    role: Role, projects: Sequence[str], name: str, random_bytes: Callable[[int], bytes]
) -> tuple[str, Key]:
    """A fresh key, to be shown once, and its entry. `projects` of `*` are all of them.

    Raises:
        ValueError: a project's name is none.
    """
    if "*" not in projects:
        for project in projects:
            if (problem := project_problem(project)) is not None:
                raise ValueError(problem)
    key_id = random_bytes(6).hex()
    secret = base64.urlsafe_b64encode(random_bytes(32)).decode().rstrip("=")
    digest = hashlib.sha256(secret.encode()).hexdigest()
    allowed = None if "*" in projects else frozenset(projects)
    return f"{LEAD}{key_id}_{secret}", Key(key_id, digest, role, allowed, name)


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file by id.

    Raises:
        Misconfigured: it cannot be read, or an entry is none; secrets are never part of the message.
    """
    where = f"gateway_keys: {path}"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(where, f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        raise Misconfigured(where, "is no YAML", "see: anabranch keys create") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise Misconfigured(where, "has no list `keys`", "see: anabranch keys create")
    found: dict[str, Key] = {}
    for number, entry in enumerate(entries):
        key = _key(entry, f"{where}: keys[{number}]")
        if key.id in found:
            raise Misconfigured(f"{where}: keys[{number}]", f"the id {key.id} is there twice")
        found[key.id] = key
    return found


def _key(entry: Any, where: str) -> Key:
    if not isinstance(entry, dict) or not {"id", "sha256", "role", "projects"} <= entry.keys() <= _FIELDS:
        raise Misconfigured(where, "is no key", "it has id, sha256, role, projects and perhaps name")
    if not _ID.fullmatch(str(entry["id"])) or not _HASH.fullmatch(str(entry["sha256"])):
        raise Misconfigured(
            where, "its id or its sha256 is none", "64 hexadecimal digits; quote what looks a number"
        )
    if entry["role"] not in ROLES:
        raise Misconfigured(where, f"its role is none of {', '.join(ROLES)}")
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
        raise Misconfigured(where, 'its projects are neither a list of names nor "*"')
    return frozenset(value)


class KeyRing:
    """The keys of a file, as they are now. A file that becomes unreadable leaves the last keys that were good."""

    def __init__(self, path: Path, clock: Clock, warn: Callable[[str], None]) -> None:
        self._path = path
        self._clock = clock
        self._warn = warn
        self._keys = read_keys(path)
        self._stamp = _stamp(path)
        self._looked_at = clock.monotonic()

    @classmethod
    def load(cls, path: str, clock: Clock, warn: Callable[[str], None]) -> Self:
        """Raises Misconfigured where the file is none."""
        return cls(Path(path), clock, warn)

    def caller(self, token: str) -> Caller | None:
        """Who a key belongs to; None where it is none."""
        self._look()
        key_id, _, secret = token.removeprefix(LEAD).partition("_")
        key = self._keys.get(key_id)
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
        if not hmac.compare_digest(digest, key.sha256 if key is not None else "0" * 64) or key is None:
            return None
        return key.caller()

    def _look(self) -> None:
        now = self._clock.monotonic()
        if now - self._looked_at < POLL_SECONDS:
            return
        self._looked_at = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
        except Misconfigured as error:
            self._warn(f"the keys stay as they were: {error}")


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
