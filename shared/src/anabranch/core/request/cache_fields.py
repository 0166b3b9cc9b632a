"""The `cache` of a task: values of completed members that other members with the same key take over.

See docs/caching.md for the rules.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anabranch.core.request.document import Document
from anabranch.core.request.fields import Timeout

CacheScope = Literal["project", "session", "run"]
CACHE_DAY = 86_400.0


class Cache(Document):
    """Where and for how long the values of a task's members are kept, and by which key they are found again."""

    key: Annotated[str, Field(min_length=1)] | None = None
    """A template. Default: all that the agent gets as message, instructions, inputs, tools and variables."""
    ttl: Timeout = CACHE_DAY
    """A value is taken over for so long after its member completed."""
    version: str | int = ""
    """Part of the key: another version finds no value of an earlier one."""
    scope: CacheScope = "project"
    """Whose members share values."""
