"""Dramatiq. Workers: two processes of four threads.

A fan-out is a group of n no-op messages and its results. A run is three groups, each with a completion callback
that gets the results of the group and starts the next one: pipelines of dramatiq have no groups.
"""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as BarrierBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

from driving import LIMIT_SECONDS, STAGES, WIDTH, after, at_once, drive, in_threads, total

URL = os.environ["PEER_REDIS_URL"]
LIMIT = int(LIMIT_SECONDS * 1000)

# Each thread that waits for a result blocks a connection, for longer than the defaults of redis-py allow.
redis = Redis.from_url(URL, socket_timeout=2 * LIMIT_SECONDS, max_connections=1_000)
broker = RedisBroker(client=redis, namespace=os.environ["PEER_QUEUE"])
# Results has to come last: dramatiq then stores a result before it counts the message as completed.
broker.add_middleware(GroupCallbacks(BarrierBackend(client=redis)))
broker.add_middleware(Results(backend=RedisBackend(client=redis, namespace=os.environ["PEER_QUEUE"])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, max_retries=0)
def noop(n: int) -> int:
    return n


@dramatiq.actor(store_results=True, max_retries=0)
def step(values: list[int]) -> int:
    return after(values)


@dramatiq.actor(max_retries=0)
def advance(stage: int, steps: list[dict[str, Any]], final: dict[str, Any]) -> None:
    """Start the next group with the results of the one before."""
    start_group(stage, _results(steps), final)


@dramatiq.actor(store_results=True, max_retries=0)
def last(steps: list[dict[str, Any]]) -> int:
    return total(_results(steps))


def start_group(stage: int, values: list[int], final: dict[str, Any]) -> None:
    """Start a group. The message `final` of the run, whose id the client knows, follows the last one."""
    steps = dramatiq.group([step.message(values) for _ in range(WIDTH)])
    started = [_brief(message) for message in steps.children]
    if stage < STAGES:
        steps.add_completion_callback(advance.message(stage + 1, started, final))
    else:
        steps.add_completion_callback(dramatiq.Message(**final).copy(args=(started,)))
    steps.run()


def fan_out(count: int) -> int:
    group = dramatiq.group([noop.message(n) for n in range(count)]).run()
    return len(list(group.get_results(block=True, timeout=LIMIT)))


def run() -> int:
    final = last.message()
    start_group(1, [], final.asdict())
    return int(final.get_result(block=True, timeout=LIMIT))


def single() -> int:
    return int(noop.send(1).get_result(block=True, timeout=LIMIT))


def _brief(message: dramatiq.Message[int]) -> dict[str, Any]:
    """A message by which its result is found."""
    return {"message_id": message.message_id, "queue_name": message.queue_name, "actor_name": message.actor_name}


def _results(steps: list[dict[str, Any]]) -> list[int]:
    return [dramatiq.Message(**each, args=(), kwargs={}, options={}).get_result() for each in steps]


if __name__ == "__main__":
    drive(in_threads(at_once()), fan_out, run, single)
