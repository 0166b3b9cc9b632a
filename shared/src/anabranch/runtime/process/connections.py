"""Connects adapters by the settings. Importing a service does not import this, and so no client library."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from anabranch.adapters.kafka.log import KafkaLog
from anabranch.adapters.redis.notifier import RedisNotifier
from anabranch.adapters.redis.store import RedisStore
from anabranch.ports import EventLog
from anabranch.runtime.fitted_log import FittedLog
from anabranch.runtime.process.settings import Settings


async def kafka_log(settings: Settings) -> EventLog:
    """Connect to the Kafka brokers of the settings.

    Raises:
        ServerUnavailable: no broker responds.
        Misconfigured: the client does not have one of the properties.
    """
    log = await KafkaLog.connect(settings.brokers, properties=settings.kafka_properties)
    return FittedLog(log, settings.names)


async def redis_store(settings: Settings) -> RedisStore:
    """Connect only a store, for the running event loop. Raises as `redis_pair`."""
    return await RedisStore.connect(redis_url(settings), ca_file=settings.redis_ca_file)


async def redis_pair(settings: Settings) -> tuple[RedisStore, RedisNotifier]:
    """Connect the store and the notifier to the Redis of the settings.

    Raises:
        ServerUnavailable: Redis does not respond.
        Misconfigured: the URL, the user or the CA file is wrong.
    """
    store = await redis_store(settings)
    try:
        notifier = await RedisNotifier.connect(redis_url(settings), ca_file=settings.redis_ca_file)
    # A cancelled connect, too: the caller gets no store that it could close.
    except BaseException:
        await store.close()
        raise
    return store, notifier


def redis_url(settings: Settings) -> str:
    """The Redis URL with the user and password that have settings of their own, percent-encoded."""
    if settings.redis_username is None and settings.redis_password is None:
        return settings.redis_url
    parts = urlsplit(settings.redis_url)
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    user = user if settings.redis_username is None else quote(settings.redis_username, safe="")
    password = password if settings.redis_password is None else quote(settings.redis_password, safe="")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))
