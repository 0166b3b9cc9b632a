"""What a decision asks the shell to do. Values only: performing them is the business of `runtime.owner`.

Effects of one turn are done in two stages. First everything that makes outcomes durable: values in the
store, pages, events. Then, once that is acknowledged, the news of them: announcements, offers, facts for
other owners. So a crash at any instant repeats news and never changes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.ports import Outgoing


@dataclass(frozen=True, slots=True)
class Put:
    """Store a value, fenced by the owner's epoch within `scope`, the hash tag of `key`. `ttl` in seconds.

    What is the same whoever writes it, and whenever, needs no fence.
    """

    scope: str
    key: str
    value: bytes
    ttl: float
    fenced: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """Publish a record that must be durable before the news of this turn goes out."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class News:
    """Publish a record once everything of this turn is durable."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class Announce:
    """Publish on a channel of the store once everything of this turn is durable."""

    channel: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Expire:
    """Let keys of the store live for `ttl` seconds from now. What is not there needs nothing."""

    keys: tuple[str, ...]
    ttl: float


Effect = object
"""Put, Record, News, Announce, Expire, or one of a service's own that its shell knows."""
