"""The limits that runs share, as a request and a configuration write them: concurrency keys and rates.

Structure only. Each limit has an owner, who decides what may start; see docs/shared-limits.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from anabranch.core.limit_addresses import MAX_NAME
from anabranch.core.request.document import Document
from anabranch.core.request.fields import Count, Timeout, text_of_number

OnFull = Literal["queue", "reject", "cancel_running", "replace_queued"]
"""What happens while all places of a concurrency key are held. ``queue``: wait. ``reject``: fail.
``cancel_running``: cancel those that have held a place for longest. ``replace_queued``: wait, and cancel those
that wait already."""

LimitKey = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME),
    BeforeValidator(text_of_number),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "minLength": 1,
            "maxLength": MAX_NAME,
            "description": "a text, which may have placeholders, or a number, which becomes text",
        }
    ),
]


class Concurrency(Document):
    """At most ``limit`` of all that name the same key in a project run at once."""

    key: LimitKey
    limit: Count = 1
    on_full: OnFull = "queue"


class RateLimit(Document):
    """At most ``limit`` members of all that name the same key in a project start in the time ``per``, on average;
    ``burst`` of them at once."""

    key: LimitKey | None = None
    """Default: the name of the task's agent."""
    limit: Count
    per: Timeout = 1.0
    burst: Count | None = None
    """Default: ``limit``."""

    @property
    def most_at_once(self) -> int:
        """The burst, with its default."""
        return self.limit if self.burst is None else self.burst
