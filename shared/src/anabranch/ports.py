"""What the system needs of the outside world, as Protocols whose docstrings are the specification.

Adapters implement these and do not repeat them; one conformance suite runs over every adapter. This
module holds no behaviour and imports no library that does I/O.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from anabranch.core.run_filter import RunFilter
from anabranch.core.telemetry import Metric
from anabranch.core.tracing import RunTrace, Span
from anabranch.core.wire.run_view import RunView

# --- the log -------------------------------------------------------------------------------------


Headers = tuple[tuple[str, bytes | None], ...]
"""A record's headers in their order. A name may be there twice, and a value may be null."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to publish.

    `key` is text, or bytes where a record is handed on whose key may be no UTF-8. `headers` is a mapping, or
    pairs where a name may be there twice.

    `partition` overrides the partitioner.
    """

    topic: str
    key: str | bytes | None
    value: bytes
    headers: Mapping[str, bytes] | Headers = field(default_factory=dict)
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """One record as read. `timestamp` is the record's own, in seconds since the epoch.

    A value that is null, as of a tombstone, is empty here, and `is_null` tells it from an empty one.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Headers
    timestamp: float
    is_null: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """A consumer group's committed position in one partition.

    `offset` is the next record to handle; `metadata` is the owner's own text of at most 4,000 characters.
    """

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a consumer group stands in one partition: what it committed, what the log holds, and who reads.

    `first` and `end` are the offsets of the first record that is kept and of the next one to come. `member` is
    the group's own name of the member that the partition is assigned to, None where there is none.
    """

    committed: Committed | None
    first: int
    end: int
    member: str | None

    @property
    def position(self) -> int:
        """The first offset that is not committed; the log may have forgotten what was committed."""
        return max(self.committed.offset, self.first) if self.committed else self.first

    @property
    def lag(self) -> int:
        """Records behind the committed offset."""
        return max(self.end - self.position, 0)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The offset and the timestamp of the first record that a partition keeps. Where it keeps none, the offset of
    the next one to come, and None."""

    offset: int
    timestamp: float | None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create: `config` holds the broker's names (`retention.ms`, `max.message.bytes`)."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


class PartitionListener(Protocol):
    """The consumer side's code, called on the event loop, never concurrently for one partition.

    Order for one partition: `assigned`, then `deliver` any number of times, then `revoked` or `lost`;
    after these two nothing more is delivered until it is assigned again.
    """

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        """Take over a partition. Returns the offset to start at; None starts at the committed offset,
        or at the earliest record where nothing was committed. Nothing is delivered until it returns."""

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        """Give a partition up in good order within five seconds. What it returns is committed before the
        partition moves on; None commits nothing. Effects started before must have ended on return."""

    async def lost(self, topic: str, partition: int) -> None:
        """Somebody else already owns the partition: drop its state, write nothing."""

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        """Records in offset order, without gaps other than the log's own. Must not block: it queues.
        Where the queue is full enough, pause the partition."""


class Membership(Protocol):
    """A live member of a consumer group.

    The client polls in a thread of its own, so a slow listener never costs the membership. Polling
    never waits for work: back-pressure is `pause`, which keeps the assignment.
    """

    async def commit(self, topic: str, partition: int, position: Committed) -> None:
        """Commit a position of a partition that is assigned; one that is no longer assigned is ignored.
        Returns when the group coordinator has it, raises ServerUnavailable when it cannot be had."""

    async def confirm(self, topic: str, partition: int, position: Committed) -> bool:
        """Commit a position to check that this member still owns the partition: False if another member owns it,
        or if the coordinator cannot be reached."""

    def pause(self, topic: str, partition: int) -> None:
        """Stop fetching from a partition; records already fetched may still be delivered. A partition that
        is assigned anew is not paused."""

    def resume(self, topic: str, partition: int) -> None:
        """Fetch again after `pause`; without one nothing happens."""

    def unhealthy_reason(self) -> str | None:
        """Why nothing may be delivered any more although the log is there; None while the client polls."""

    async def close(self) -> None:
        """Leave the group: every partition is revoked in good order first."""


class Reader(Protocol):
    """Reads partitions without a consumer group: for clients and tools that follow a topic."""

    def __aiter__(self) -> AsyncIterator[Sequence[Incoming]]:
        """Batches of at least one record, in offset order within a partition; waits at the end of the log."""

    async def end_offsets(self) -> Mapping[int, int]:
        """For each partition read the offset that the next record will get."""


class EventLog(Protocol):
    """A partitioned, durable, ordered log with consumer groups.

    Keys are UTF-8 and placed by murmur2 as the Java client does, in every adapter. Delivery is at least
    once: after a crash or a rebalance records from the committed offset on are delivered again.
    """

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """Append records; returns their offsets once all are durable (acks=all, idempotent). The order of
        records of one partition is the order of `publish` calls and within one the order of the sequence.

        Raises RecordTooLarge for a record over the limit (nothing of the call is appended, unless the limit was
        lowered since it was asked for), ServerUnavailable when the log has not taken them in time (some may be
        appended)."""

    async def join(self, group: str, topics: Sequence[str], listener: PartitionListener) -> Membership:
        """Join a consumer group. Each partition of `topics` has at most one member at a time."""

    def read(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        start: int | Literal["earliest", "latest"] = "latest",
    ) -> AbstractAsyncContextManager[Reader]:
        """Follow partitions (None: all). The start positions are fixed when the context is entered, so what is
        published after entering is seen."""

    async def create_topics(self, topics: Sequence[TopicSpec]) -> Sequence[str]:
        """Create what is missing and return the names created. Idempotent. Raises Misconfigured where a topic
        exists with another number of partitions."""

    async def partition_count(self, topic: str) -> int:
        """Number of partitions; raises Misconfigured where the topic does not exist."""

    async def record_limit(self, topic: str) -> int:
        """Bytes that one record of a topic may have, value, key and headers together: the smallest of what the
        client, the topic and the broker allow. Remembered; asked again after a record was refused for its size.
        Raises ServerUnavailable if the log cannot be reached."""

    async def incarnation(self, topic: str) -> str:
        """Id of a topic's incarnation, which changes when the topic is deleted and created again; "" if the log
        has no such ids. Raises Misconfigured if the topic does not exist."""

    async def beginnings(self, topic: str, partitions: Collection[int]) -> Mapping[int, Beginning]:
        """The first record of each of these partitions. Cheap enough to be asked every few seconds. Raises
        ServerUnavailable if the log cannot be reached, Misconfigured if the topic does not exist."""

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        """What the broker has set for a topic, by its own names (`retention.ms`, `cleanup.policy`), among it
        what the topic was created with; empty where it does not let itself be asked."""

    async def partition_for(self, topic: str, key: str) -> int:
        """The partition that a key lives in."""

    async def group_lag(self, group: str, topic: str) -> Mapping[int, int]:
        """Records behind the committed offset, for each partition."""

    async def group_standing(self, group: str, topic: str, *, members: bool = False) -> Mapping[int, Standing]:
        """Where a group stands in each partition, also one that nobody has joined (yet). Reads only.

        With `members`, which is for tools, also who reads; while the group rebalances a partition may be shown
        without a member.
        """

    async def close(self) -> None:
        """Flush what was published, then release every connection and thread."""


# --- the store -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """One value to store under a full key name, for `ttl` seconds."""

    key: str
    value: bytes
    ttl: float


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of a history: a list under `key`, ordered by `position` (an integer from 0, below 2**53), of which
    the last `keep` stay. What stands at a position is replaced, and what was dropped does not come back.

    A history lives for `ttl` seconds, and no shorter than it was to live before.
    """

    key: str
    position: int
    value: bytes
    ttl: float
    keep: int


@dataclass(frozen=True, slots=True)
class History:
    """What is left of a history: values in order, and how many were dropped before them."""

    dropped: int
    values: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Fence:
    """Who writes: `key` names the fence (it shares the hash tag of the writes), `epoch` is the owner's."""

    key: str
    epoch: int
    ttl: float


class StateStore(Protocol):
    """Keys and values with a time to live. It is the fast view; the log is the truth.

    Calls made in one turn of the loop may share a round trip. Every method raises ServerUnavailable where
    the store cannot be reached and StoreRefused where it refuses writes (out of memory, read only).
    """

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Values in the order of the keys, None for each that is absent. Keys may have different hash tags."""

    async def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None = None) -> None:
        """Store values, and add entries to histories. With a fence all writes and the fence happen in one atomic
        step, and raise Fenced, writing nothing, where the fence already carries a higher epoch; all keys then
        share one hash tag."""

    async def put_new(self, write: Write) -> bytes | None:
        """Store a value unless the key exists: the first write wins. Returns None where it was stored, else
        the value that is there."""

    async def history(self, key: str, last: int | None = None) -> History:
        """The last entries of a history, None: all; empty where there is none. `dropped` counts all others."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[str]:
        """For each key its holder: `owner` where it was free or already held by `owner`, else the other's
        name. A claim lapses after `ttl` seconds."""

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """Delete each key that `owner` holds; others stay."""

    async def expire(self, keys: Sequence[str], ttl: float) -> None:
        """Give each key that exists `ttl` seconds from now; absent ones are ignored. Hash tags may differ."""

    async def delete(self, keys: Sequence[str]) -> int:
        """Delete keys of any hash tag; returns how many existed."""

    async def index_add(self, index: str, member: str, score: float, *, keep: int, ttl: float) -> None:
        """Add to (or move in) an ordered index and drop all but the `keep` highest scores."""

    async def index_top(self, index: str, count: int, offset: int = 0) -> Sequence[str]:
        """Members with the highest scores, highest first."""

    async def index_remove(self, index: str, members: Sequence[str]) -> None:
        """Remove members; absent ones are ignored."""

    async def identity(self) -> str:
        """Changes when the store may have forgotten writes: a restart or a failover to another server."""

    async def check(self) -> None:
        """Raises Misconfigured where the server would lose data by its settings (an eviction policy other
        than noeviction)."""

    async def close(self) -> None: ...


class Notifier(Protocol):
    """Publish and subscribe on named channels. A message is a wake-up, never the data: it may be lost,
    and after a reconnect, or an overflow, each callback is called with None, which means "read again"."""

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish (channel, message) pairs in order."""

    async def subscribe(self, channel: str, callback: Callable[[bytes | None], None]) -> None:
        """Call `callback` on the loop with each message of a channel. Returns when the subscription is active:
        what is published later is seen. The same channel may have many callbacks; they share one subscription."""

    async def unsubscribe(self, channel: str, callback: Callable[[bytes | None], None]) -> None:
        """Remove one callback; an unknown one is ignored."""

    async def close(self) -> None: ...


# --- runs that are found, and kept ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of runs, the latest first. `next_cursor` continues the search; None after the last page."""

    views: Sequence[RunView]
    next_cursor: str | None


class RunIndex(Protocol):
    """Finds runs by filter.

    A run appears in it soon after its first event, and at least until its view expires.
    """

    async def search(self, wanted: RunFilter, limit: int, cursor: str | None = None) -> RunPage:
        """The next runs that match, at most `limit`, the latest submitted first.

        A page may be short or empty and still have a `next_cursor`: an implementation may bound the work of one
        call. With the cursors of one search no run is returned twice, and runs that are submitted meanwhile are
        left out.

        Raises:
            ValueError: `cursor` is not the `next_cursor` of an earlier page.
            ServerUnavailable: the store cannot be reached.
        """


class HistoryStore(Protocol):
    """Ended runs in a database, kept beyond the time to live of the store and the retention of the log.

    A projector writes it from the views of ended runs; nothing that runs depends on it, so it may lag and may be
    rebuilt. Every method raises ServerUnavailable if the database cannot be reached.
    """

    async def put(self, view: RunView) -> None:
        """Store the final view of a run under its `run_id`, in place of an earlier one.

        Idempotent: the projector may put the same view again after a crash. A view whose `last_fact_at` is lower
        than that of the stored one is ignored, so that a late repetition does not replace newer data.

        Raises:
            ValueError: the run of the view has not ended.
        """

    async def get(self, run_id: str) -> RunView | None:
        """The view of a run as it was put; None for a run that is unknown or deleted."""

    async def search(self, wanted: RunFilter, limit: int, cursor: str | None = None) -> RunPage:
        """The next runs that match; see `RunIndex.search`. A run that was put is found as soon as `put` returns.

        Cursors stay valid while runs are put and deleted, also across processes.
        """

    async def delete(self, run_ids: Sequence[str]) -> int:
        """Delete runs for good, as retention or a request for erasure asks; returns how many existed.

        A later `put` of a deleted run stores it again: the caller has to keep deleted runs from the projector.
        """

    async def close(self) -> None:
        """Release connections. Idempotent."""


# --- time, ids -----------------------------------------------------------------------------------


class Clock(Protocol):
    """Time as a port, so that tests run hours in milliseconds. Waiting is the loop's own (`asyncio.sleep`)."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never go back, for durations."""


class Ids(Protocol):
    """Fresh identifiers as a port."""

    def run_scoped(self) -> str:
        """A UUIDv7: ordered by time of making."""

    def incarnation(self) -> str:
        """A short random name for one life of one process."""


# --- telemetry -----------------------------------------------------------------------------------


class Telemetry(Protocol):
    """Metrics and spans of one process. Every call returns at once and raises nothing, and any thread may make it:
    what cannot be told to a collector is left out, for nobody's work waits for it."""

    @property
    def measures(self) -> bool:
        """Whether metrics are kept. Where they are not, who would have to work for a number does not."""

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Add to a counter; `labels` are all that the metric has."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Note one value of a histogram."""

    def show(self, metric: Metric, values: Mapping[tuple[str, ...], float], *, part: str = "") -> None:
        """Set a gauge, by the values of its labels in their order. What is not named is shown no more of this part
        of the process."""

    def wants(self, trace: RunTrace) -> bool:
        """Whether the spans of a run are to be told. The same for a run in each process that is set up alike."""

    def emit(self, span: Span) -> None:
        """Tell a span that has ended. Told again it is the same span, by its id."""

    def exposition(self) -> bytes:
        """All metrics as Prometheus reads them, empty where none are kept. Must not be called on the loop's thread
        where that matters: it takes milliseconds."""

    def adopt(self) -> None:
        """Let tracers that this process's agents get from OpenTelemetry tell their spans here, unless somebody has
        set up another place for them."""

    def close(self) -> None:
        """Tell what is left, for some seconds at most. Blocks."""


Async = Callable[[], Awaitable[None]]
