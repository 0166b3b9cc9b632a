"""The limits that runs share, as a request and a configuration write them: concurrency keys and rates.

Structure only. Each limit has an owner, who decides what may start; see docs/shared-limits.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from anabranch.core.limit_addresses import MAX_NAME
from anabranch.core.request.document import Document
from anabranch.core.request.fields import Count, Timeout, text_of_number
from anabranch.core.request.flow import refusal
from anabranch.core.templates import member_scope, render

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


def rendered_key(key: str, context: Mapping[str, Any], **system: str) -> str:
    """The key of a run: its placeholders name values of the context, and ids by their `system` names."""
    return str(render(key, member_scope({}, context, system)))


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


class Breaker(Document):
    """Stops the calls of an agent that fails: after ``failures`` failed attempts, or a share ``rate`` of them, in
    the last ``window``. After ``cooldown``, ``probes`` members try again."""

    failures: Count | None = None
    rate: Annotated[float, Field(gt=0, le=1)] | None = None
    window: Timeout = 60.0
    min_calls: Count | None = None
    """Attempts in the window before it may open. Default: 1, with ``rate`` 10."""
    cooldown: Timeout = 30.0
    probes: Count = 1
    on_open: Literal["wait", "fail"] = "wait"

    @model_validator(mode="after")
    def _opens(self) -> Self:
        if (self.failures is None) == (self.rate is None):
            raise refusal("has not exactly one of `failures` and `rate`", "say how many attempts may fail")
        return self

    @property
    def fewest_calls(self) -> int:
        """``min_calls``, with its default."""
        return self.min_calls or (1 if self.rate is None else 10)
