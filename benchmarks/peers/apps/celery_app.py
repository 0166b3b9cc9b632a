"""Celery. Workers: prefork, two processes.

A fan-out is a chord of n no-op tasks, whose callback gets all results. A run is a chain of groups, of which Celery
makes chords: each task gets the results of the group before. This is faster than a chain of chords with a task
between two groups.
"""

from __future__ import annotations

import os

from celery import Celery, chain, chord, group

from driving import WIDTH, after, at_once, drive, in_threads, total

URL = os.environ["PEER_REDIS_URL"]
INTERVAL = 0.01

app = Celery("celery_app", broker=URL, backend=URL)
app.conf.update(
    task_default_queue=os.environ["PEER_QUEUE"],
    result_expires=600,
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
)


@app.task
def noop(n: int) -> int:
    return n


@app.task
def joined(values: list[int]) -> int:
    return len(values)


@app.task
def step(values: list[int]) -> int:
    return after(values)


@app.task
def last(values: list[int]) -> int:
    return total(values)


def fan_out(count: int) -> int:
    return int(chord(noop.s(n) for n in range(count))(joined.s()).get(interval=INTERVAL))


def run() -> int:
    first = group(step.s([]) for _ in range(WIDTH))
    second, third = (group(step.s() for _ in range(WIDTH)) for _ in range(2))
    return int(chain(first, second, third, last.s()).apply_async().get(interval=INTERVAL))


def single() -> int:
    return int(noop.delay(1).get(interval=INTERVAL))


if __name__ == "__main__":
    drive(in_threads(at_once()), fan_out, run, single)
