"""The log, the store and the channels of one simulated process: the memory adapters behind a simulated network.

A call travels to the server, is executed, and its response travels back. Calls of one connection stay in order.
The process may die between any two of these steps. Faults are drawn from the world's random source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Any, Literal, TypeVar

from anabranch.adapters.lifecycle import TopicPartition
from anabranch.adapters.limits import check_sizes
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.consumer import MemoryMembership
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.reader import MemoryReader
from anabranch.adapters.memory.store import MemoryStore
from anabranch.adapters.session_lease import SessionLease
from anabranch.core.errors import AnabranchError, ServerUnavailable
from anabranch.ports import (
    Beginning,
    Clock,
    Committed,
    Fence,
    History,
    HistoryEntry,
    Outgoing,
    PartitionListener,
    Put,
    Standing,
    TopicSpec,
    Write,
)
from anabranch.testing.simulator.fault_injector import FaultInjector
from anabranch.testing.simulator.loop import OUTSIDE, SimLoop
from anabranch.testing.simulator.revertible_server import RevertibleServer

T = TypeVar("T")
Callback = Callable[[bytes | None], None]
_BEYOND = 2**62
"""A position that no partition reaches: the membership receives nothing."""


class Wire:
    """One connection of a process to a server. Calls and responses stay in order."""

    def __init__(self, loop: SimLoop, injector: FaultInjector, process: str, server: str) -> None:
        self._loop = loop
        self._injector = injector
        self._process = process
        self._server = server
        self._arrived = 0.0
        self._answered = 0.0

    async def call(self, name: str, action: Callable[[], T]) -> T:
        """Execute an action on the server; returns its result or raises its error."""
        injector = self._injector
        future: asyncio.Future[T] = self._loop.create_future()
        # Otherwise the process died before it sent the call: it takes no further step, so nothing waits for the
        # future.
        if injector.sends(self._process, name):
            # A call never arrives before an earlier one of its connection.
            self._arrived = max(self._arrived, self._loop.time() + injector.latency())
            self._loop.call_at(self._arrived, self._serve, future, name, action, context=OUTSIDE)
        return await future

    def _serve(self, future: asyncio.Future[T], name: str, action: Callable[[], T]) -> None:
        result: Any = None
        error: Exception | None = None
        outcome = self._injector.outcome(self._server)
        if outcome == "request lost":
            error = ServerUnavailable(self._server, "the simulator", "cut off")
        else:
            try:
                result = action()
            # A TypeError is the server's answer to a key of the wrong kind, as Redis' WRONGTYPE is.
            except (AnabranchError, TypeError) as problem:
                error = problem
            if outcome == "response lost":
                error = ServerUnavailable(self._server, "the simulator", "the answer was lost")
        self._injector.served(self._process, name)
        self._answered = max(self._answered, self._loop.time() + self._injector.latency())
        self._loop.call_at(self._answered, _answer, future, result, error, context=OUTSIDE)


def _answer(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    # The caller was cancelled, for example by a timeout.
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def finished(coroutine: Any) -> Any:
    """Run a coroutine that never waits, without an event loop; returns its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a call of the store in memory waited")


class SimStore:
    """See `ports.StateStore`."""

    def __init__(self, server: RevertibleServer, wire: Wire) -> None:
        self._inner = MemoryStore(server)
        self._wire = wire

    async def get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        if not keys:
            return []
        return await self._call("get", self._inner.get, keys)  # type: ignore[no-any-return]

    async def put(self, writes: Sequence[Write | HistoryEntry], fence: Fence | None = None) -> None:
        await self._call("put", self._inner.put, writes, fence)

    async def put_all(self, puts: Sequence[Put]) -> None:
        # One call for each: a connection that is cut leaves some of a pipeline's commands undone.
        await asyncio.gather(*(self.put(writes, fence) for writes, fence in puts))

    async def history(self, key: str, last: int | None = None) -> History:
        return await self._call("get", self._inner.history, key, last)  # type: ignore[no-any-return]

    async def put_new(self, write: Write) -> bytes | None:
        return await self._call("put", self._inner.put_new, write)  # type: ignore[no-any-return]

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[str]:
        return await self._call("claim", self._inner.claim, keys, owner, ttl)  # type: ignore[no-any-return]

    async def release(self, keys: Sequence[str], owner: str) -> None:
        await self._call("put", self._inner.release, keys, owner)

    async def expire(self, keys: Sequence[str], ttl: float) -> None:
        await self._call("put", self._inner.expire, keys, ttl)

    async def delete(self, keys: Sequence[str]) -> int:
        return await self._call("put", self._inner.delete, keys)  # type: ignore[no-any-return]

    async def index_add(self, index: str, scores: Mapping[str, float], *, keep: int, ttl: float) -> None:
        def add() -> None:
            finished(self._inner.index_add(index, scores, keep=keep, ttl=ttl))

        await self._wire.call("put", add)

    async def index_top(self, index: str, count: int, offset: int = 0) -> Sequence[str]:
        return await self._call("get", self._inner.index_top, index, count, offset)  # type: ignore[no-any-return]

    async def index_remove(self, index: str, members: Sequence[str]) -> None:
        await self._call("put", self._inner.index_remove, index, members)

    async def identity(self) -> str:
        return await self._call("get", self._inner.identity)  # type: ignore[no-any-return]

    async def check(self) -> None:
        await self._call("get", self._inner.check)

    async def close(self) -> None:
        """Does nothing: there is nothing to close."""

    async def _call(self, name: str, method: Callable[..., Any], *args: Any) -> Any:
        return await self._wire.call(name, lambda: finished(method(*args)))


class SimNotifier:
    """See `ports.Notifier`. Messages may be lost or delivered twice."""

    def __init__(
        self, loop: SimLoop, server: RevertibleServer, wire: Wire, injector: FaultInjector, context: Context
    ) -> None:
        self._loop = loop
        self._server = server
        self._wire = wire
        self._injector = injector
        self._context = context
        self.subscriptions: dict[tuple[str, Callback], Callback] = {}

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        await self._wire.call("publish", lambda: self._publish(messages))

    def _publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        self._server.check_reachable()
        for channel, message in messages:
            for callback in list(self._server.channels.get(channel, ())):
                for _ in range(self._injector.copies()):
                    callback(message)

    async def subscribe(self, channel: str, callback: Callback) -> None:
        place = (channel, callback)
        if place not in self.subscriptions:
            self.subscriptions[place] = self._sender(place)
        await self._wire.call("subscribe", lambda: self._add(place))

    def _sender(self, place: tuple[str, Callback]) -> Callback:
        def send(message: bytes | None) -> None:
            # Drawn for each message, so that two messages of one channel may overtake each other.
            delay = self._injector.latency()
            self._loop.call_later(delay, self._deliver, place, message, context=self._context)

        return send

    def _add(self, place: tuple[str, Callback]) -> None:
        self._server.check_reachable()
        sender = self.subscriptions.get(place)
        if sender is not None and sender not in self._server.channels.get(place[0], ()):
            self._server.channels.setdefault(place[0], []).append(sender)

    async def unsubscribe(self, channel: str, callback: Callback) -> None:
        sender = self.subscriptions.pop((channel, callback), None)
        if sender is not None:
            self._remove(channel, sender)

    def _remove(self, channel: str, sender: Callback) -> None:
        there = self._server.channels.get(channel, [])
        if sender in there:
            there.remove(sender)
        if not there:
            self._server.channels.pop(channel, None)

    def vanish(self) -> None:
        """Drop all subscriptions: the process has died."""
        for (channel, _), sender in self.subscriptions.items():
            self._remove(channel, sender)
        self.subscriptions.clear()

    async def close(self) -> None:
        self.vanish()

    def _deliver(self, place: tuple[str, Callback], message: bytes | None) -> None:
        if place in self.subscriptions:
            place[1](message)


class SimMembership(MemoryMembership):
    """A group member whose deliveries run as steps of its process, and whose commits travel over the network."""

    def __init__(
        self,
        broker: MemoryBroker,
        group: str,
        topics: tuple[str, ...],
        listener: PartitionListener,
        log: SimLog,
    ) -> None:
        super().__init__(broker, group, topics, listener)
        self._sim = log
        self._lease = SessionLease(broker.session_timeout)
        self.replaced_at: float | None = None
        """From this time on, other members may have acted as owners of the partitions; None if they are ours."""
        self._held: dict[TopicPartition, int] = {}

    async def commit(self, topic: str, partition: int, position: Committed) -> None:
        """See `ports.Membership`."""
        member = self._member  # the id at this time: a broker refuses a commit of a member that has rejoined since
        sent_at = self._sim.loop.time()
        if await self._sim.wire.call("commit", lambda: self._commit_as(member, (topic, partition), position)):
            self._lease.confirm(sent_at)

    def is_confirmed(self) -> bool:
        """See `ports.Membership`. Like the client of a real group, it knows only its accepted commits."""
        return self._lease.holds(self._sim.loop.time())

    def expel(self, *, was_silent: bool) -> None:
        """Remove this member from its group. It learns of it only by `notice`.

        Args:
            was_silent: the session has timed out. Otherwise the member could not foresee it, and may act as owner
                until its session would have timed out.
        """
        if self._group.is_member(self._member):
            self.replaced_at = self._sim.loop.time() + (0.0 if was_silent else self._broker.session_timeout)
        self._group.remove(self._member)

    def notice(self) -> None:
        """Let the member read its group's assignment."""
        self._changed.set()

    async def _join_again(self) -> None:
        self._lease.end()
        await super()._join_again()
        self.replaced_at = None

    def has(self, topic: str, partition: int) -> bool:
        """True if the member reads a partition."""
        return (topic, partition) in self._positions

    def hold(self, topic: str) -> None:
        """Stop receiving from a topic, which was deleted and created again, until `read_recreated`."""
        for place in [place for place in self._positions if place[0] == topic]:
            if self._positions[place] != _BEYOND:
                # Kept only the first time: a topic may be recreated again before the client has noticed.
                self._held[place] = self._positions[place]
            self._positions[place] = _BEYOND

    def read_recreated(self, topic: str) -> None:
        """Read the recreated topic at the old position, as clients do that do not compare topic ids. A position
        that is out of range is reset to the earliest."""
        for place in [place for place, at in self._positions.items() if place[0] == topic and at == _BEYOND]:
            partition, position = self._broker.partition(place), self._held[place]
            self._positions[place] = position if position <= partition.end else partition.first
            partition.watch(self._wake)
        self._wake()

    def _wake(self) -> None:
        if self._pump is None:
            delay = self._sim.injector.latency()
            # In the context of the process: a frozen process receives nothing, and a dead one never.
            self._pump = self._sim.loop.call_later(delay, self._deliver, context=self._sim.context)


class SimLog:
    """See `ports.EventLog`. A client of the broker with one connection per topic."""

    def __init__(
        self,
        loop: SimLoop,
        broker: MemoryBroker,
        clock: Clock,
        injector: FaultInjector,
        process: str,
        context: Context,
    ) -> None:
        self.loop = loop
        self.injector = injector
        self.context = context
        self.wire = Wire(loop, injector, process, "log")
        self._process = process
        self._broker = broker
        self._clock = clock
        self._inner = MemoryLog(broker, clock)
        self._wires: dict[str, Wire] = {}
        self.memberships: list[SimMembership] = []

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See `ports.EventLog`. Records on different topics may overtake each other."""
        check_sizes(records, self._broker.record_limit)
        if late := self.injector.lateness(records):
            await asyncio.sleep(late)
        topics = list(dict.fromkeys(record.topic for record in records))
        if len(topics) == 1:
            return await self._publish(topics[0], records)
        # Each topic has a connection of its own, as its partitions may have other leaders: only the order within a
        # topic is kept.
        parts = [[record for record in records if record.topic == topic] for topic in topics]
        found = await asyncio.gather(
            *(self._publish(topic, part) for topic, part in zip(topics, parts, strict=True))
        )
        offsets = {topic: iter(part) for topic, part in zip(topics, found, strict=True)}
        return [next(offsets[record.topic]) for record in records]

    async def _publish(self, topic: str, records: Sequence[Outgoing]) -> Sequence[int]:
        wire = self._wires.get(topic)
        if wire is None:
            wire = self._wires[topic] = Wire(self.loop, self.injector, self._process, "log")
        return await wire.call(topic, lambda: self._append(records))

    def _append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        offsets = self._broker.append(records, self._clock.now())
        for record in records:
            if (delay := self.injector.repeats(record)) is not None:
                self.loop.call_later(delay, self._broker.append, [record], self._clock.now(), context=OUTSIDE)
        return offsets

    async def join(self, group: str, topics: Sequence[str], listener: PartitionListener) -> SimMembership:
        """See `ports.EventLog`."""
        membership = SimMembership(self._broker, group, tuple(topics), listener, self)
        self.memberships.append(membership)
        membership.start()
        return membership

    def read(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        start: int | Literal["earliest", "latest"] = "latest",
    ) -> AbstractAsyncContextManager[MemoryReader]:
        """See `ports.EventLog`."""
        return self._inner.read(topic, partitions, start)

    async def record_limit(self, topic: str) -> int:
        """See `ports.EventLog`."""
        return await self._inner.record_limit(topic)

    async def incarnation(self, topic: str) -> str:
        """See `ports.EventLog`."""
        return await self._inner.incarnation(topic)

    async def create_topics(self, topics: Sequence[TopicSpec]) -> Sequence[str]:
        """See `ports.EventLog`."""
        return await self._inner.create_topics(topics)

    async def partition_count(self, topic: str) -> int:
        """See `ports.EventLog`."""
        return await self._inner.partition_count(topic)

    async def partition_for(self, topic: str, key: str) -> int:
        """See `ports.EventLog`."""
        return await self._inner.partition_for(topic, key)

    async def group_lag(self, group: str, topic: str) -> Mapping[int, int]:
        """See `ports.EventLog`."""
        return self._broker.lag(group, topic)

    async def group_standing(self, group: str, topic: str, *, members: bool = False) -> Mapping[int, Standing]:
        """See `ports.EventLog`."""
        return await self._inner.group_standing(group, topic, members=members)

    async def beginnings(self, topic: str, partitions: Collection[int]) -> Mapping[int, Beginning]:
        """See `ports.EventLog`."""
        return await self.wire.call("beginnings", lambda: self._broker.beginnings(topic, partitions))

    async def topic_settings(self, topic: str) -> Mapping[str, str]:
        """See `ports.EventLog`."""
        return await self._inner.topic_settings(topic)

    async def close(self) -> None:
        """See `ports.EventLog`."""
        for membership in self.memberships:
            await membership.close()

    def vanish(self) -> None:
        """Drop all memberships: the process has died. Its groups notice after the session timeout."""
        for membership in self.memberships:
            membership.crash()
