"""One node of a Redis Cluster that has every slot runs the scripts of a real run, each within one slot.

A node in cluster mode refuses a script or a command whose keys are in several slots. Redirections of a cluster of
several nodes are not supported: see docs/scaling.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cluster_slots import SLOTS, slot_of
from redis import Redis
from redis.exceptions import AskError, MovedError, ResponseError
from servers.process import ServerHandle, free_port
from small_requests import array, request, task
from waiting import eventually

from anabranch import Task, embedded
from anabranch.adapters.redis.faults import translate
from anabranch.adapters.redis.store import RedisStore
from anabranch.core.errors import StoreRefused
from anabranch.core.names import session_key
from anabranch.ports import Fence, Write
from anabranch.testing.systems import registry_of

one_node = pytest.mark.server_settings(redis={"cluster-enabled": "yes", "cluster-port": str(free_port())})


@pytest.fixture
async def node(redis_process: ServerHandle) -> AsyncIterator[Redis]:
    """The node, once it serves every slot."""
    with Redis.from_url(redis_process.address) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        await eventually(lambda: b"cluster_state:ok" in _raw(admin.execute_command("CLUSTER", "INFO")), 20)
        yield admin


def _raw(answer: object) -> bytes:
    return answer if isinstance(answer, bytes) else str(answer).encode()


@one_node
async def test_a_node_computes_the_slots_that_the_tests_do_and_refuses_what_spans_two(
    node: Redis, redis_process: ServerHandle
) -> None:
    for key in (session_key("shop.eu", "a{b}"), "anabranch.{shop.eu}:fence", "plain", "{}empty", "open{", "ü{ö}"):
        assert node.execute_command("CLUSTER", "KEYSLOT", key) == slot_of(key)

    store = await RedisStore.connect(redis_process.address)
    with pytest.raises(StoreRefused):
        await store.put([Write("{one}:k", b"1", 60)], Fence("{two}:fence", 1, 60))
    await store.close()
    assert node.info("commandstats")["cmdstat_evalsha"]["rejected_calls"] == 1


@one_node
async def test_whole_runs_work_on_a_node_in_cluster_mode(
    node: Redis, redis_process: ServerHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def this_node() -> AsyncIterator[str]:
        yield redis_process.address

    async def works(each: Task) -> str:
        if each.task_name == "fails" and each.index == 3:
            raise ValueError("no")
        return "x" * 500

    monkeypatch.setattr("anabranch.embedded.local_valkey", this_node)
    registry = registry_of({"works": works})
    async with embedded.embedded(registry, store="valkey") as system:
        for name, status in (("does", "completed"), ("fails", "failed")):
            wide = task(name, "works", expansion_config=array(list(range(300)), output_format="separate"))
            after = task("after", "works", dependencies=[name])
            run = await system.client.submit(request(wide, after, context={"given": 1}))
            async with asyncio.timeout(60):
                assert (await run.result()).status == status

    scripts = node.info("commandstats")["cmdstat_evalsha"]
    assert scripts["calls"] > 10
    assert scripts["rejected_calls"] == 0
    with pytest.raises(ResponseError):
        node.mget("a", "b")


def test_a_node_that_sends_elsewhere_is_named_as_one() -> None:
    for refusal in (MovedError("3999 127.0.0.1:6381"), AskError("3999 127.0.0.1:6381")):
        error = translate(refusal, "put", "redis://h:6379/0")

        assert isinstance(error, StoreRefused)
        assert "Redis Cluster" in str(error)
