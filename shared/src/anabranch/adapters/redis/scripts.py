"""The Lua scripts, each of which is one atomic operation, and how to call them.

A script is called by its digest (EVALSHA), which saves sending its text with each call; only a server that does
not know the digest gets the text. The header of each script documents its keys, arguments and return values.
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
    """The text of a script."""

    text: str

    @cached_property
    def digest(self) -> str:
        """The SHA-1 digest by which a server identifies the script."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def by_digest(self, keys: list[str], *args: Argument) -> Command:
        """The short call by digest, which fails with NOSCRIPT if the server does not know the script."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)


def _load(*names: str) -> Script:
    """Load a script from files, concatenated in order."""
    folder = resources.files("anabranch.adapters.redis") / "lua"
    # Concatenated, because Redis has no way for one script to include another.
    return Script("".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names))


FENCED_PUT = _load("history", "fenced_put")
ADD_ENTRIES = _load("history", "add_entries")
CLAIM = _load("claim")
RELEASE = _load("release")

_TEXTS = {each.digest: each.text for each in (FENCED_PUT, ADD_ENTRIES, CLAIM, RELEASE)}


def by_text(call: Command) -> Command:
    """A call made by `Script.by_digest`, with the text of the script instead."""
    return ("EVAL", _TEXTS[str(call[1])], *call[2:])
