"""Celery: a chord of n no-op tasks, whose callback gets all results. Workers: prefork, two processes."""

from __future__ import annotations

import os

from celery import Celery, chord

from driving import drive

URL = os.environ["PEER_REDIS_URL"]
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


def fan_out(count: int) -> int:
    return int(chord(noop.s(n) for n in range(count))(joined.s()).get(interval=0.01))


if __name__ == "__main__":
    drive(fan_out)
