"""Taskiq over Redis streams. Workers: two processes.

A fan-out is n no-op tasks, gathered by the client. A run is three groups, also gathered by the client, which sends
the next group with the results of the one before: Taskiq has no join in its workers.
"""

from __future__ import annotations

import asyncio
import os

from taskiq import gather
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from driving import STAGES, WIDTH, after, at_once, drive, in_tasks, total

URL = os.environ["PEER_REDIS_URL"]
AT_ONCE = 500
POLLS = 5_000
"""The client polls for results this often in a second, over all runs at once."""
INTERVAL = max(0.001, at_once() / POLLS) if __name__ == "__main__" else 0.0

broker = RedisStreamBroker(URL, queue_name=os.environ["PEER_QUEUE"]).with_result_backend(
    RedisAsyncResultBackend(URL, result_ex_time=600, serializer=ORJSONSerializer())
)


@broker.task(task_name="noop")
async def noop(n: int) -> int:
    return n


@broker.task(task_name="step")
async def step(values: list[int]) -> int:
    return after(values)


async def fan_out(count: int) -> int:
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


async def run() -> int:
    values: list[int] = []
    for _ in range(STAGES):
        tasks = await asyncio.gather(*(step.kiq(values) for _ in range(WIDTH)))
        # One after another, so that a run polls for one result at a time.
        values = [(await task.wait_result(check_interval=INTERVAL)).return_value for task in tasks]
    return total(values)


async def single() -> int:
    return int((await (await noop.kiq(1)).wait_result(check_interval=INTERVAL)).return_value)


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        runner.run(broker.startup())
        drive(in_tasks(runner), fan_out, run, single)
