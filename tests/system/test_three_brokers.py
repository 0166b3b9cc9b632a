"""A Kafka cluster of three brokers: two are killed at once, then each is restarted in turn; the only effect is a
delay."""

from __future__ import annotations

import pytest
from chaos import chosen_seed
from cluster import Start
from servers.kafka_trio import KafkaTrio
from steady_load import Load

RUNS, MEMBERS = 51, 120


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_three_brokers_two_of_them_killed_and_all_restarted(
    start: Start, three_brokers: KafkaTrio, redis_url: str
) -> None:
    """51 runs with 6,120 members that record their calls, one run every 2 s. SIGKILL to two brokers at once, which
    are down for 5 s; later SIGTERM to each, and a start, once all replicas are in sync."""
    cluster = start(three_brokers.address, redis_url, ANABRANCH_PARTITIONS="4")
    load = Load(cluster, chosen_seed(21), runs=RUNS, members=MEMBERS, pause=2.0)
    load.until_ended(5)

    for broker in three_brokers.brokers[:2]:
        broker.kill()
    load.go_on(5)
    three_brokers.start()
    load.until_ended(15)
    for broker in three_brokers.brokers:
        load.until(three_brokers.is_in_sync)
        broker.stop()
        load.go_on(1)
        three_brokers.start()

    assert load.is_under_way, "too late: the runs had ended"
    load.finish()
    assert load.calls == RUNS * MEMBERS
    assert load.repeated == {}
    load.close()
