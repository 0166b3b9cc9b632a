"""The Lua scripts, each an atomic operation of its own, and how to call one.

A script is called by its digest; a server that does not know it is given the text. The scripts' own headers
say their keys, arguments and return values.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

from anabranch.adapters.redis.connection import Command

Argument = str | bytes | int


@dataclass(frozen=True)
class Script:
    """One script's text."""

    text: str

    @cached_property
    def digest(self) -> str:
        """The name by which a server knows it."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def by_digest(self, keys: list[str], *args: Argument) -> Command:
        """The call that is short, and fails with NOSCRIPT where the server has not seen the script."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)

    def by_text(self, call: Command) -> Command:
        """The same call as `by_digest` made, with the text."""
        return ("EVAL", self.text, *call[2:])


def _load(*names: str) -> Script:
    """The script of these files, one after the other."""
    folder = resources.files("anabranch.adapters.redis") / "lua"
    return Script("".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names))


FENCED_PUT = _load("history", "fenced_put")
ADD_ENTRIES = _load("history", "add_entries")
CLAIM = _load("claim")
RELEASE = _load("release")
