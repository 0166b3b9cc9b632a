"""A Redis that loses data under load: all of it, or the last seconds in a failover to its replica."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from chaos import chosen_seed
from cluster import Start, await_true
from cutting_proxy import CuttingProxy
from redis import Redis
from servers.process import ServerHandle, ServerProcess
from steady_load import Load

pytestmark = pytest.mark.timeout(600)
BEHIND_SECONDS = 3.0
"""Seconds; below the default loss window of 5 s."""


@pytest.mark.chaos
def test_a_redis_that_is_flushed_twice_under_load(start: Start, kafka: str, redis_process: ServerHandle) -> None:
    """30 runs of 120 members, one every 0.7 s, with two FLUSHALL. Values of ended runs are restored."""
    cluster = start(kafka, redis_process.address)
    load = Load(cluster, chosen_seed(22), runs=30, members=120, pause=0.7)
    for ended in (5, 15):
        load.until_ended(ended)
        load.user.redis.flushall()

    assert load.is_under_way, "too late: the runs had ended"
    load.finish()

    sessions = [asked.finals[0][1].body["session_id"] for asked in load.traffic.asked.values()]
    await_true(lambda: all(load.user.value(each, "again") is not None for each in sessions), 120, cluster.logs)
    load.close()


def address(server: ServerHandle) -> tuple[str, int]:
    url = urlsplit(server.address)
    return str(url.hostname), int(url.port or 6379)


def follow(replica: Redis, primary: CuttingProxy) -> None:
    """Make a server the replica of the one behind a proxy, and wait until it has all data."""
    replica.replicaof("127.0.0.1", str(primary.port))
    await_true(lambda: replica.info("replication")["master_link_status"] == "up", 60)


@pytest.mark.chaos
def test_a_failover_to_a_replica_that_is_three_seconds_behind(
    start: Start, kafka: str, redis_pair: tuple[ServerHandle, ServerHandle]
) -> None:
    """The replica loses its link under load; 3 s later the primary is killed, and the replica is promoted at the
    same address."""
    primary, replica = redis_pair
    if not isinstance(replica, ServerProcess):
        pytest.skip("a container cannot reach a proxy on loopback")
    link, front = CuttingProxy(address(primary)), CuttingProxy(address(primary))
    following = Redis.from_url(replica.address)
    follow(following, link)
    cluster = start(kafka, f"redis://127.0.0.1:{front.port}/0")
    load = Load(cluster, chosen_seed(23), runs=30, members=120, pause=0.7)
    load.until_ended(5)

    link.close()
    load.go_on(BEHIND_SECONDS)
    assert following.info("replication")["master_link_status"] == "down"
    primary.kill()
    following.replicaof("NO", "ONE")
    front.turn_to(address(replica))

    assert load.is_under_way
    load.finish()
    following.close()
    front.close()
    load.close()
