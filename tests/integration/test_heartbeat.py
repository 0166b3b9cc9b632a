"""A process renews its liveness key while its event loop is blocked, but not if that lasts too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
from redis import Redis

from anabranch.adapters.redis.store import RedisStore
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.heartbeat import Heartbeat


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


async def _heartbeat(redis_url: str, key: str, patience: float) -> Heartbeat:
    heartbeat = Heartbeat(
        partial(RedisStore.connect, redis_url), SystemClock(), ttl=0.4, every=0.1, patience=patience
    )
    heartbeat.start(key)
    await asyncio.sleep(0.3)
    return heartbeat


async def test_a_blocked_loop_keeps_its_liveness_key(client: Redis, redis_url: str, prefix: str) -> None:
    """The loop is blocked for three times the key's time to live."""
    heartbeat = await _heartbeat(redis_url, f"{prefix}alive", patience=60)

    time.sleep(1.2)
    assert client.exists(f"{prefix}alive")

    await heartbeat.stop()


async def test_a_loop_that_is_blocked_for_too_long_loses_its_liveness_key(
    client: Redis, redis_url: str, prefix: str
) -> None:
    heartbeat = await _heartbeat(redis_url, f"{prefix}alive", patience=0.2)

    time.sleep(1.2)
    assert not client.exists(f"{prefix}alive")

    await heartbeat.stop()
