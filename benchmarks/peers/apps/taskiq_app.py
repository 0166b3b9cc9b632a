"""Taskiq: n no-op tasks over Redis streams, gathered. Workers: two processes."""

from __future__ import annotations

import asyncio
import os

from taskiq import gather
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from driving import drive

URL = os.environ["PEER_REDIS_URL"]
AT_ONCE = 500

broker = RedisStreamBroker(URL, queue_name=os.environ["PEER_QUEUE"]).with_result_backend(
    RedisAsyncResultBackend(URL, result_ex_time=600, serializer=ORJSONSerializer())
)


@broker.task(task_name="noop")
async def noop(n: int) -> int:
    return n


async def _fan_out(count: int) -> int:
    tasks = []
    for first in range(0, count, AT_ONCE):
        tasks += await asyncio.gather(*(noop.kiq(n) for n in range(first, min(first + AT_ONCE, count))))
    joined = 0
    for first in range(0, count, AT_ONCE):
        chunk = tasks[first : first + AT_ONCE]
        # gather() polls each task, so wait for the last one before.
        await chunk[-1].wait_result(check_interval=0.02)
        joined += len(await gather(*chunk, periodicity=0.02))
    return joined


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        runner.run(broker.startup())
        drive(lambda count: runner.run(_fan_out(count)))
        runner.run(broker.shutdown())
