"""Every adapter behind the same fixtures: memory always, Kafka and Redis where there is a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.ports import EventLog, Notifier, StateStore, TopicSpec
from conformance.clients import NewLog, NewNotifier, NewStore, WallClock


@pytest.fixture(params=["memory", "kafka"])
async def new_log(request: pytest.FixtureRequest) -> AsyncIterator[NewLog]:
    """Makes clients of one log; each is closed after the test."""
    async with AsyncExitStack() as clients:
        if request.param == "memory":
            broker = MemoryBroker()

            async def connect() -> EventLog:
                return MemoryLog(broker, WallClock())

        else:
            brokers: str = request.getfixturevalue("kafka")
            from anabranch.adapters.kafka.log import KafkaLog

            async def connect() -> EventLog:
                return await KafkaLog.connect(brokers)

        async def new() -> EventLog:
            log = await connect()
            clients.push_async_callback(log.close)
            return log

        yield new


@pytest.fixture
async def log(new_log: NewLog) -> EventLog:
    """One client of the log."""
    return await new_log()


@pytest.fixture
async def topic(log: EventLog, prefix: str) -> str:
    """A topic of four partitions."""
    name = f"{prefix}numbers"
    await log.create_topics([TopicSpec(name, 4)])
    return name


@pytest.fixture
def group(prefix: str) -> str:
    """A consumer group's name."""
    return f"{prefix}group"


@pytest.fixture(params=["memory", "redis"])
async def new_store(request: pytest.FixtureRequest) -> AsyncIterator[NewStore]:
    """Makes clients of one store; each is closed after the test."""
    async with AsyncExitStack() as clients:
        if request.param == "memory":
            server = MemoryServer(WallClock())

            async def connect() -> StateStore:
                return MemoryStore(server)

        else:
            url: str = request.getfixturevalue("redis_url")
            from anabranch.adapters.redis.store import RedisStore

            async def connect() -> StateStore:
                return await RedisStore.connect(url)

        async def new() -> StateStore:
            store = await connect()
            clients.push_async_callback(store.close)
            return store

        yield new


@pytest.fixture
async def store(new_store: NewStore) -> StateStore:
    """One client of the store."""
    return await new_store()


@pytest.fixture(params=["memory", "redis"])
async def new_notifier(request: pytest.FixtureRequest) -> AsyncIterator[NewNotifier]:
    """Makes clients of one set of channels; each is closed after the test."""
    async with AsyncExitStack() as clients:
        if request.param == "memory":
            server = MemoryServer(WallClock())

            async def connect() -> Notifier:
                return MemoryNotifier(server)

        else:
            url: str = request.getfixturevalue("redis_url")
            from anabranch.adapters.redis.notifier import RedisNotifier

            async def connect() -> Notifier:
                return await RedisNotifier.connect(url)

        async def new() -> Notifier:
            notifier = await connect()
            clients.push_async_callback(notifier.close)
            return notifier

        yield new


@pytest.fixture(params=["memory", "redis"])
async def fragile_notifier(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[Notifier, Callable[[], None]]]:
    """A notifier, and a function that breaks its subscriptions as a failing network would."""
    if request.param == "memory":
        server = MemoryServer(WallClock())
        memory = MemoryNotifier(server)
        yield memory, server.restart
        await memory.close()
        return
    from redis import Redis

    from anabranch.adapters.redis.notifier import RedisNotifier

    url: str = request.getfixturevalue("redis_process").address
    notifier = await RedisNotifier.connect(url)
    with Redis.from_url(url) as admin:
        yield notifier, lambda: admin.client_kill_filter(_type="pubsub")
    await notifier.close()
