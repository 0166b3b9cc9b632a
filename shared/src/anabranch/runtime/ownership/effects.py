"""What a decision asks the shell to do. Values only: performing them is the business of `runtime.owner`.

Effects of one turn are done in two stages. First everything that makes outcomes durable: values in the
store, pages, events. Then, once that is acknowledged, the news of them: announcements, offers, facts for
other owners. So a crash at any instant repeats news and never changes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.core.telemetry import Metric
from anabranch.core.tracing import Span
from anabranch.ports import HistoryEntry, Outgoing


@dataclass(frozen=True, slots=True)
class StorePut:
    """Store a value, fenced by the owner's epoch within `scope`, the hash tag of `key`. `ttl` in seconds.

    What is the same whoever writes it, and whenever, needs no fence.
    """

    scope: str
    key: str
    value: bytes
    ttl: float
    fenced: bool = True


@dataclass(frozen=True, slots=True)
class AppendHistory:
    """Add an entry to a history of the store, fenced as a Put is. `ttl` in seconds; see `ports.Entry`."""

    scope: str
    key: str
    position: int
    value: bytes
    ttl: float
    keep: int

    def entry(self) -> HistoryEntry:
        return HistoryEntry(self.key, self.position, self.value, self.ttl, self.keep)


@dataclass(frozen=True, slots=True)
class PublishFirst:
    """Publish a record that must be durable before the news of this turn goes out."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class PublishAfter:
    """Publish a record once everything of this turn is durable."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class Notify:
    """Publish on a channel of the store once everything of this turn is durable."""

    channel: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Expire:
    """Let keys of the store live for `ttl` seconds from now. What is not there needs nothing."""

    keys: tuple[str, ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class Count:
    """Add to a counter, once the turn is told. What an owner before may have counted is not counted again."""

    metric: Metric
    amount: float = 1
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Lag:
    """Note in a histogram how long ago `since` (seconds since the epoch) is, once the turn is told."""

    metric: Metric
    since: float
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell a span, once the turn is told; again after a crash, and then it is the same span."""

    span: Span


Effect = object
"""Put, Note, Record, News, Announce, Expire, Count, Lag, Emit, or one of a service's own that its shell knows."""
