"""The ports of the system, as Protocols whose docstrings are the specification.

Adapters implement them and do not repeat the docstrings; one conformance suite runs over every adapter. This
module has no behaviour and imports no library that does I/O.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from anabranch.core.run_filter import RunFilter
from anabranch.core.telemetry import Metric
from anabranch.core.tracing import RunTrace, Span
from anabranch.core.value_objects import value_object
from anabranch.core.wire.run_view import RunView

# --- the log -------------------------------------------------------------------------------------


Headers = tuple[tuple[str, bytes | None], ...]
"""The headers of a record in order. A name may occur twice, and a value may be null."""


@value_object
class Outgoing:
    """One record to publish.

    `key` is text, or bytes for a record that is forwarded and whose key may not be UTF-8. `headers` is a mapping,
    or pairs if a name occurs twice.

    `partition` overrides the partitioner. `is_null`: the value is null in place of empty, which deletes the key
    from a compacted topic.
    """

    topic: str
    key: str | bytes | None
    value: bytes
    headers: Mapping[str, bytes] | Headers = field(default_factory=dict)
    partition: int | None = None
    is_null: bool = False


@value_object
class Incoming:
    """One record that was read. `timestamp` is the record's timestamp, in seconds since the epoch.

    A null value, as of a Kafka tombstone, is empty here, and `is_null` distinguishes it from an empty one.
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

    `offset` is the next record to handle; `metadata` is text of the owner, at most 4,000 characters.
    """

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """State of a consumer group in one partition: committed position, range of kept records, and member.

    `first` and `end` are the offsets of the first kept record and of the next record. `member` is the group's name
    of the member that the partition is assigned to; None if there is none.
    """

    committed: Committed | None
    first: int
    end: int
    member: str | None

    @property
    def position(self) -> int:
        """The first offset that is not committed, at least `first`: retention may have removed earlier records."""
        return max(self.committed.offset, self.first) if self.committed else self.first

    @property
    def lag(self) -> int:
        """Number of records after the committed offset."""
        return max(self.end - self.position, 0)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The offset and timestamp of the first record that a partition keeps; of an empty partition the offset of the
    next record, and None."""

    offset: int
    timestamp: float | None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create. `config` has the broker's settings; `replication_factor` None is the broker's default."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    replication_factor: int | None = None


class PartitionListener(Protocol):
    """Callbacks of a group member. Called on the event loop, never concurrently for one partition.

    Order for one partition: `assigned`, then `deliver` any number of times, then `revoked` or `lost`. After these
    two nothing is delivered until the partition is assigned again."""

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        """Take over a partition. Returns the offset to start at; None means the committed offset, or the earliest
        record if nothing was committed. Nothing is delivered until it returns."""

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        """Release a partition within five seconds. The returned position is committed before the partition moves
        to another member; None commits nothing. Effects that were started must have ended on return."""

    async def lost(self, topic: str, partition: int) -> None:
        """Another member owns the partition already: drop its state and write nothing."""

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        """Take records in offset order, without gaps other than those of the log. Must not block: queue the
        records, and pause the partition if the queue is full."""


class Membership(Protocol):
    """A live member of a consumer group.

    The client polls in its own thread, so a slow listener does not lose the membership. Polling never waits for
    work: backpressure is `pause`, which keeps the assignment.
    """

    async def commit(self, topic: str, partition: int, position: Committed) -> None:
        """Commit a position of an assigned partition; for any other partition nothing happens. Returns when the
        group coordinator has it; raises ServerUnavailable if the coordinator cannot be reached."""

    async def confirm(self, topic: str, partition: int, position: Committed) -> bool:
        """Commit a position to check that this member still owns the partition: False if another member owns it,
        or if the coordinator cannot be reached."""

    def is_confirmed(self) -> bool:
        """True if the group cannot have given any partition of this member to another one: the coordinator has
        accepted a commit that was sent less than a session timeout ago."""

    def pause(self, topic: str, partition: int) -> None:
        """Stop fetching from a partition; records already fetched may still be delivered. A new assignment of the
        partition is not paused."""

    def resume(self, topic: str, partition: int) -> None:
        """Resume fetching after `pause`; ignored if the partition is not paused."""

    def unhealthy_reason(self) -> str | None:
        """Why no records are delivered although the log is reachable; None while the client polls."""

    async def close(self) -> None:
        """Leave the group, after revoking every partition."""


class Reader(Protocol):
    """Reads partitions without a consumer group: for clients and tools that follow a topic."""

    def __aiter__(self) -> AsyncIterator[Sequence[Incoming]]:
        """Yield batches of at least one record, in offset order within a partition; waits at the log's end."""

    async def end_offsets(self) -> Mapping[int, int]:
        """The offset of the next record, for each partition that is read."""


class EventLog(Protocol):
    """A partitioned, durable, ordered log with consumer groups.

    Keys are UTF-8, and every adapter places them by murmur2 as the Java client does. Delivery is at least once:
    after a crash or a rebalance, records from the committed offset on are delivered again.
    """

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """Append records; returns their offsets once all are durable (acks=all, idempotent). Records of one
        partition are in the order of the `publish` calls, and within a call in the order of the sequence.

        Raises RecordTooLarge for a record over the limit (no record of the call is appended, unless the limit was
        lowered since it was read), and ServerUnavailable if the log has not acknowledged them in time (some may be
        appended)."""

    async def join(self, group: str, topics: Sequence[str], listener: PartitionListener) -> Membership:
        """Join a consumer group. Each partition of `topics` has at most one member at a time."""

    def read(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        start: int | Literal["earliest", "latest"] = "latest",
    ) -> AbstractAsyncContextManager[Reader]:
        """Read partitions (None: all) as records arrive. The start positions are fixed when the context is
        entered, so records published after that are read."""

    async def create_topics(self, topics: Sequence[TopicSpec]) -> Sequence[str]:
        """Create missing topics and return their names. Idempotent. Raises Misconfigured if a topic exists with
        another number of partitions."""

    async def partition_count(self, topic: str) -> int:
        """Number of partitions. Raises Misconfigured if the topic does not exist."""

    async def record_limit(self, topic: str) -> int:
        """Maximum bytes of a record of the topic, for value, key and headers together: the smallest limit of
        client, topic and broker. Cached, and read again after a record was refused for its size. Raises
        ServerUnavailable if the log cannot be reached."""

    async def incarnation(self, topic: str) -> str:
        """Id of a topic's incarnation, which changes when the topic is deleted and created again; "" if the log
        has no such ids. Raises Misconfigured if the topic does not exist."""

    async def beginnings(self, topic: str, partitions: Collection[int]) -> Mapping[int, Beginning]:
        """The first record of each of these partitions. Cheap enough to be read every few seconds. Raises
        ServerUnavailable if the log cannot be reached, Misconfigured if the topic does not exist."""

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        """Settings of a topic by the broker's names (`retention.ms`, `cleanup.policy`), including those given at
        its creation; empty if reading them is not permitted."""

    async def partition_for(self, topic: str, key: str) -> int:
        """The partition of a key."""

    async def group_lag(self, group: str, topic: str) -> Mapping[int, int]:
        """Number of records after the committed offset, for each partition."""

    async def group_standing(self, group: str, topic: str, *, members: bool = False) -> Mapping[int, Standing]:
        """State of a group in each partition, even if no member has joined. Read-only.

        `members`, which is meant for tools, adds the member of each partition; during a rebalance a partition may
        have none.
        """

    async def close(self) -> None:
        """Flush published records, then release every connection and thread."""


# --- the store -----------------------------------------------------------------------------------


@value_object
class Write:
    """One value to store under a full key name, for `ttl` seconds."""

    key: str
    value: bytes
    ttl: float


@value_object
class HistoryEntry:
    """One entry of a history: a list under `key`, ordered by `position` (an integer from 0, below 2**53), which
    keeps the last `keep` entries. An entry at the same position is replaced, and a dropped one is not added again.

    A history lives for `ttl` seconds; its time to live is never shortened.
    """

    key: str
    position: int
    value: bytes
    ttl: float
    keep: int


@dataclass(frozen=True, slots=True)
class History:
    """The kept values of a history in order, and the number of values dropped before them."""

    dropped: int
    values: Sequence[bytes]


@value_object
class Fence:
    """Fencing token of a write: `key` names the fence (in the writes' hash tag), `epoch` is the owner's epoch."""

    key: str
    epoch: int
    ttl: float


Put = tuple[Sequence[Write | HistoryEntry], Fence | None]
"""The arguments of `StateStore.put`."""


class StateStore(Protocol):
    """Keys and values with a time to live: a fast view of the state, whose source of truth is the log.

    Calls made in one iteration of the event loop may share a round trip. Every method raises ServerUnavailable if
    the store cannot be reached, and StoreRefused if it refuses writes (out of memory, read only).
    """

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Values in the order of the keys, None for each that is absent. Keys may have different hash tags."""

    async def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None = None) -> None:
        """Store values, and add entries to histories. With a fence, the fence and all writes are one atomic step,
        which raises Fenced and writes nothing if the fence has a higher epoch; all keys share a hash tag."""

    async def put_all(self, puts: Sequence[Put]) -> None:
        """Make several calls of `put` in one round trip. Each is a step of its own: if its fence refuses one, the
        others are stored all the same, and the first Fenced is raised."""

    async def put_new(self, write: Write) -> bytes | None:
        """Store a value unless the key exists (the first write wins); returns the existing value, else None."""

    async def history(self, key: str, last: int | None = None) -> History:
        """The last entries of a history (None: all); empty if there is none. `dropped` counts all others."""

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[str]:
        """Claim keys and return the holder of each: `owner` if the key was free or held by `owner` already, else
        the other holder. A claim expires after `ttl` seconds."""

    async def release(self, keys: Sequence[str], owner: str) -> None:
        """Delete each key that `owner` holds; others stay."""

    async def expire(self, keys: Sequence[str], ttl: float) -> None:
        """Set the time to live of each existing key; absent keys are ignored. Hash tags may differ."""

    async def delete(self, keys: Sequence[str]) -> int:
        """Delete keys of any hash tag; returns the number of those that existed."""

    async def index_add(self, index: str, scores: Mapping[str, float], *, keep: int, ttl: float) -> None:
        """Add members (at least one) with their scores to an ordered index, or move them in it, and drop all but
        the `keep` highest scores."""

    async def index_top(self, index: str, count: int, offset: int = 0) -> Sequence[str]:
        """Members with the highest scores, highest first."""

    async def index_remove(self, index: str, members: Sequence[str]) -> None:
        """Remove members; absent ones are ignored."""

    async def identity(self) -> str:
        """Identity of the server; changes when it may have lost writes, at a restart or a failover."""

    async def check(self) -> None:
        """Raises Misconfigured if the server's settings would lose data (an eviction policy other than
        noeviction)."""

    async def close(self) -> None: ...


class Notifier(Protocol):
    """Publish and subscribe on named channels. A message only wakes subscribers, because it may be lost: after a
    reconnect or an overflow each callback is called with None, which means "read the data again"."""

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish (channel, message) pairs in order."""

    async def subscribe(self, channel: str, callback: Callable[[bytes | None], None]) -> None:
        """Call `callback` on the loop with each message of a channel. Returns when the subscription is active, so
        that later messages are received. Several callbacks of a channel share one subscription."""

    async def unsubscribe(self, channel: str, callback: Callable[[bytes | None], None]) -> None:
        """Remove one callback; an unknown one is ignored."""

    async def close(self) -> None: ...


# --- the index of runs ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of runs, the latest first. `next_cursor` continues the search; None after the last page. `as_of`:
    the time up to which it has all events, in seconds since the epoch; None if that is not known."""

    views: Sequence[RunView]
    next_cursor: str | None
    as_of: float | None = None


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


# --- time, ids -----------------------------------------------------------------------------------


class Clock(Protocol):
    """Time as a port, so that tests run hours in milliseconds. Waiting uses the event loop (`asyncio.sleep`)."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Monotonic seconds, for durations."""


class Ids(Protocol):
    """New identifiers as a port."""

    def run_scoped(self) -> str:
        """A UUIDv7, ordered by time of creation."""

    def incarnation(self) -> str:
        """A short random name for one incarnation of a process."""


# --- telemetry -----------------------------------------------------------------------------------


class Telemetry(Protocol):
    """Metrics and spans of one process. Every call is thread-safe, returns at once and never raises: data that
    cannot be exported is dropped, so that telemetry never delays work."""

    @property
    def measures(self) -> bool:
        """True if metrics are kept; callers then compute numbers that need work."""

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Add to a counter; `labels` has a value for every label of the metric."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Record one value of a histogram."""

    def show(self, metric: Metric, values: Mapping[tuple[str, ...], float], *, part: str = "") -> None:
        """Set a gauge by the values of its labels, in order. Other values of this part of the process are
        removed."""

    def wants(self, trace: RunTrace) -> bool:
        """True if the spans of a run are exported. Processes with equal settings agree about a run."""

    def emit(self, span: Span) -> None:
        """Export a span that has ended. Idempotent, because a repeated span has the same id."""

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format, empty if none are kept. Takes milliseconds, so call it outside
        the event loop's thread."""

    def adopt(self) -> None:
        """Export the spans of this process's agents here too, unless the process has set up another OpenTelemetry
        provider."""

    def close(self) -> None:
        """Export pending data, for a few seconds at most. Blocks."""


Async = Callable[[], Awaitable[None]]
