"""Settings to connected adapters. Apart from `resources`, so that importing a service loads no client library."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from anabranch.adapters.kafka.log import KafkaLog
from anabranch.adapters.redis.notifier import RedisNotifier
from anabranch.adapters.redis.store import RedisStore
from anabranch.ports import EventLog
from anabranch.runtime.fitted_log import FittedLog
from anabranch.runtime.process.settings import Settings


async def kafka_log(settings: Settings) -> EventLog:
    """The log on the brokers of the settings.

    Raises:
        ServerUnavailable: no broker answers.
        Misconfigured: a property is none of the client's.
    """
    log = await KafkaLog.connect(settings.brokers, properties=settings.kafka_properties)
    return FittedLog(log, settings.names)


async def redis_store(settings: Settings) -> RedisStore:
    """The store alone, for the running loop. Raises as `redis_pair`."""
    return await RedisStore.connect(redis_url(settings), ca_file=settings.redis_ca_file)


async def redis_pair(settings: Settings) -> tuple[RedisStore, RedisNotifier]:
    """The store and the channels on the Redis of the settings.

    Raises:
        ServerUnavailable: it does not answer.
        Misconfigured: the URL, the user or the CA file is wrong.
    """
    store = await redis_store(settings)
    try:
        notifier = await RedisNotifier.connect(redis_url(settings), ca_file=settings.redis_ca_file)
    except BaseException:
        await store.close()
        raise
    return store, notifier


def redis_url(settings: Settings) -> str:
    """The URL with the user and password that were set apart from it, as secrets usually are."""
    if settings.redis_username is None and settings.redis_password is None:
        return settings.redis_url
    parts = urlsplit(settings.redis_url)
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    user = user if settings.redis_username is None else quote(settings.redis_username, safe="")
    password = password if settings.redis_password is None else quote(settings.redis_password, safe="")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))
