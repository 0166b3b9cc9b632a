"""Dramatiq: a group of n no-op messages and its results. Workers: two processes of four threads."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from driving import LIMIT_SECONDS, drive

URL = os.environ["PEER_REDIS_URL"]
broker = RedisBroker(url=URL, namespace=os.environ["PEER_QUEUE"])
broker.add_middleware(Results(backend=RedisBackend(url=URL, namespace=os.environ["PEER_QUEUE"])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, max_retries=0)
def noop(n: int) -> int:
    return n


def fan_out(count: int) -> int:
    group = dramatiq.group([noop.message(n) for n in range(count)]).run()
    return len(list(group.get_results(block=True, timeout=LIMIT_SECONDS * 1000)))


if __name__ == "__main__":
    drive(fan_out)
