"""Behaviour of a real Redis only: restarts, refused writes, lost scripts, cut connections."""

from __future__ import annotations

import asyncio

import pytest
from redis import Redis
from servers.process import ServerHandle, free_port
from waiting import eventually

from anabranch.adapters.redis.notifier import RedisNotifier
from anabranch.adapters.redis.store import RedisStore
from anabranch.core.errors import Misconfigured, ServerUnavailable, StoreRefused
from anabranch.ports import Fence, Write


async def test_an_unavailable_server_is_named_without_its_password() -> None:
    port = free_port()

    with pytest.raises(ServerUnavailable) as refused:
        await RedisStore.connect(f"redis://user:secret@127.0.0.1:{port}/0", timeout=2)

    assert f"127.0.0.1:{port}" in str(refused.value)
    assert "ANABRANCH_REDIS_URL" in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_an_invalid_url_is_refused() -> None:
    with pytest.raises(Misconfigured, match="rediss://"):
        await RedisStore.connect("http://127.0.0.1:1")


async def test_a_wrong_password_is_a_setting_to_correct(redis_process: ServerHandle) -> None:
    with Redis.from_url(redis_process.address) as admin:
        admin.acl_setuser("someone", enabled=True, passwords=["+right"], commands=["+@all"], keys=["*"])
    url = redis_process.address.replace("redis://", "redis://someone:wrong@")

    with pytest.raises(Misconfigured, match="correct user and password"):
        await RedisStore.connect(url)


async def test_after_a_restart_the_identity_is_another_and_calls_work_again(
    redis_process: ServerHandle,
) -> None:
    store = await RedisStore.connect(redis_process.address)
    before = await store.identity()
    await store.put([Write("k", b"1", 60)])

    redis_process.kill()
    with pytest.raises(ServerUnavailable):
        await store.get(["k"])
    redis_process.start()

    assert await store.get(["k"]) == [None]
    await store.put([Write("{s}k", b"2", 60)], Fence("{s}f", 1, 60))
    assert await store.identity() != before, "the cached answer belongs to one connection"
    await store.close()


async def test_a_connection_cut_while_idle_costs_nobody_a_call(redis_process: ServerHandle) -> None:
    store = await RedisStore.connect(redis_process.address)
    with Redis.from_url(redis_process.address) as admin:
        for _ in range(5):
            admin.client_kill_filter(_type="normal", skipme=True)
            await eventually(lambda: store._link._connection is None)
            assert await store.get(["k"]) == [None]
    await store.close()


async def test_a_call_to_a_hanging_server_fails_after_the_timeout(redis_process: ServerHandle) -> None:
    store = await RedisStore.connect(redis_process.address, timeout=0.3)

    redis_process.pause()
    with pytest.raises(ServerUnavailable, match="no answer within"):
        await store.get(["k"])
    redis_process.resume()

    assert await store.get(["k"]) == [None]
    await store.close()


async def test_scripts_that_the_server_forgot_are_sent_again(redis_process: ServerHandle) -> None:
    store = await RedisStore.connect(redis_process.address)
    with Redis.from_url(redis_process.address) as admin:
        for epoch in (1, 2):
            await store.put([Write("{s}k", b"%d" % epoch, 60)], Fence("{s}f", epoch, 60))
            assert await store.claim(["a", "b"], "me", 60) == ["me", "me"]
            await store.release(["a", "b"], "me")
            admin.script_flush()
    assert await store.get(["{s}k", "a"]) == [b"2", None]
    await store.close()


@pytest.mark.server_settings(redis={"maxmemory": "3mb"})
async def test_a_full_server_refuses_writes_and_the_error_has_the_fix(redis_process: ServerHandle) -> None:
    store = await RedisStore.connect(redis_process.address)

    async def fill(fence: Fence | None) -> None:
        for i in range(100):
            await store.put([Write(f"{{s}}{i}", bytes(100_000), 60)], fence)

    with pytest.raises(StoreRefused, match="maxmemory"):
        await fill(None)
    with pytest.raises(StoreRefused, match="maxmemory"):
        await fill(Fence("{s}f", 1, 60))
    await store.close()


@pytest.mark.server_settings(redis={"maxmemory-policy": "allkeys-lru"})
async def test_a_server_that_evicts_is_refused(redis_process: ServerHandle) -> None:
    store = await RedisStore.connect(redis_process.address)

    with pytest.raises(Misconfigured, match="noeviction"):
        await store.check()

    with Redis.from_url(redis_process.address) as admin:
        admin.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
        with pytest.raises(Misconfigured, match="allkeys-lru"):
            await store.check()
    await store.close()


async def test_a_replica_refuses_writes(redis_process: ServerHandle) -> None:
    with Redis.from_url(redis_process.address) as admin:
        admin.replicaof("127.0.0.1", str(free_port()))
    store = await RedisStore.connect(redis_process.address)

    with pytest.raises(StoreRefused, match="replica"):
        await store.put([Write("k", b"", 60)])
    await store.close()


async def test_the_calls_of_one_turn_share_a_write(redis_process: ServerHandle) -> None:
    store = await RedisStore.connect(redis_process.address)
    with Redis.from_url(redis_process.address) as admin:
        before = admin.info("stats")["total_reads_processed"]
        await asyncio.gather(*(store.get([f"k{i}"]) for i in range(1_000)))
        reads = admin.info("stats")["total_reads_processed"] - before

    assert reads < 20
    await store.close()


async def test_subscribers_receive_from_publishers_of_any_library(redis_process: ServerHandle) -> None:
    notifier = await RedisNotifier.connect(redis_process.address)
    got: list[bytes | None] = []
    await notifier.subscribe("session:{s}:key", got.append)

    with Redis.from_url(redis_process.address) as outsider:
        outsider.publish("session:{s}:key", '{"status": "present"}')

    await eventually(lambda: got == [b'{"status": "present"}'])
    await notifier.close()


async def test_subscriptions_survive_a_restart(redis_process: ServerHandle) -> None:
    notifier = await RedisNotifier.connect(redis_process.address, timeout=10)
    got: list[bytes | None] = []
    await notifier.subscribe("c", got.append)

    redis_process.kill()
    redis_process.start()
    late: list[bytes | None] = []
    await notifier.subscribe("late", late.append)
    await eventually(lambda: got == [None])
    await notifier.publish([("c", b"1"), ("late", b"2")])

    await eventually(lambda: got == [None, b"1"] and late == [b"2"])
    await notifier.close()


async def test_a_subscription_that_times_out_is_an_error(redis_process: ServerHandle) -> None:
    notifier = await RedisNotifier.connect(redis_process.address, timeout=0.3)
    redis_process.kill()

    with pytest.raises(ServerUnavailable, match="the subscription was not confirmed within"):
        await notifier.subscribe("c", lambda message: None)
    await notifier.close()


async def test_a_call_that_cannot_be_sent_fails_alone(redis_process: ServerHandle) -> None:
    store = await RedisStore.connect(redis_process.address)

    answers = await asyncio.gather(
        store.get(["\ud800"]), store.put([Write("k", b"1", 60)]), store.get(["k"]), return_exceptions=True
    )

    assert isinstance(answers[0], UnicodeEncodeError)
    assert answers[1:] == [None, [b"1"]]
    await store.close()
