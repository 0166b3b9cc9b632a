"""Effects: what a decision asks the shell to do. Values only; `effect_writer` and the handlers perform them.

Effects of one turn are performed in two stages. The first makes outcomes durable: values and pages in the store,
events on the log. The second, once the first is acknowledged, publishes them: notifications, offers, messages to
other owners. So a crash at any instant repeats messages, and never contradicts one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from anabranch.core.telemetry import Metric
from anabranch.core.tracing import Span
from anabranch.core.value_objects import value_object
from anabranch.ports import HistoryEntry, Outgoing


@value_object
class StorePut:
    """Store a value, fenced by the owner's epoch within `scope`, the hash tag of `key`. `ttl` in seconds.

    A write with the same value at any time and by any owner needs no fence (`fenced` False).
    """

    scope: str
    key: str
    value: bytes
    ttl: float
    fenced: bool = True


@value_object
class AppendHistory:
    """Add an entry to a history of the store, fenced as a StorePut is. `ttl` in seconds; see
    `ports.HistoryEntry`."""

    scope: str
    key: str
    position: int
    value: bytes
    ttl: float
    keep: int

    def entry(self) -> HistoryEntry:
        return HistoryEntry(self.key, self.position, self.value, self.ttl, self.keep)


@value_object
class PublishFirst:
    """Publish a record in the first stage: before any record of the second."""

    outgoing: Outgoing


@value_object
class PublishAfter:
    """Publish a record once everything of this turn is durable; `is_last`: and once its other records are on the
    log, because a reader may act on it in another topic."""

    outgoing: Outgoing
    is_last: bool = False


@value_object
class Notify:
    """Publish on a channel of the store once everything of this turn is durable."""

    channel: str
    message: bytes


@value_object
class Expire:
    """Set the time to live of keys in the store to `ttl` seconds from now. Missing keys are ignored."""

    keys: tuple[str, ...]
    ttl: float


@value_object
class Count:
    """Add to a counter after the turn. A replay does not count again what the last owner may have counted."""

    metric: Metric
    amount: float = 1
    labels: tuple[tuple[str, str], ...] = ()


@value_object
class Lag:
    """Record in a histogram how long ago `since` (seconds since the epoch) is, after the turn."""

    metric: Metric
    since: float
    labels: tuple[tuple[str, str], ...] = ()


@value_object
class Emit:
    """Export a span after the turn. After a crash it is exported again, with the same ids."""

    span: Span


Effect = object
"""One of the effects above, or one that only a service's own handler knows."""


@dataclass(slots=True)
class TurnEffects:
    """The effects of a turn by what performs them, each list in the order of the decisions."""

    writes: list[StorePut | AppendHistory] = field(default_factory=list)
    first: list[Outgoing] = field(default_factory=list)
    """Records of the first stage."""
    after: list[Outgoing] = field(default_factory=list)
    """Records of the second stage."""
    last: list[Outgoing] = field(default_factory=list)
    """Records that follow those of the second stage."""
    notifications: list[tuple[str, bytes]] = field(default_factory=list)
    """Channels and messages of the second stage."""
    measured: list[Count | Lag | Emit] = field(default_factory=list)
    own: list[Effect] = field(default_factory=list)
    """Effects that the service's handler performs."""


def by_performer(effects: Iterable[Effect]) -> TurnEffects:
    """Sort the effects of a turn by what performs them."""
    turn = TurnEffects()
    for each in effects:
        if isinstance(each, PublishAfter):
            (turn.last if each.is_last else turn.after).append(each.outgoing)
        elif isinstance(each, StorePut | AppendHistory):
            turn.writes.append(each)
        elif isinstance(each, PublishFirst):
            turn.first.append(each.outgoing)
        elif isinstance(each, Notify):
            turn.notifications.append((each.channel, each.message))
        elif isinstance(each, Count | Lag | Emit):
            turn.measured.append(each)
        else:
            turn.own.append(each)
    return turn
