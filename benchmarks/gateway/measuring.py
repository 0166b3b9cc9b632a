"""The measurements: submits at a fixed rate, independent of responses, and an event's way to many listeners."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from gateway.client import Connection, call

CONNECTIONS = 64


@dataclass(frozen=True)
class Submits:
    """Latencies of submits in milliseconds.

    They count from the time when a submit was due, so they include waiting for a free connection. Otherwise a slow
    gateway would slow down its own load (coordinated omission).

    Attributes:
        cpu_ms: processor time of the gateway per submit.
        client_cpu_ms: processor time of the client per submit; it must not be the bottleneck.
    """

    wanted_per_second: float
    sent: int
    answered_per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_ms: float
    client_cpu_ms: float


@dataclass(frozen=True)
class Fanned:
    """Delays of events to listeners in milliseconds, from the timestamp of the event's record to its arrival.

    Attributes:
        spread_ms: time from the first to the last listener's arrival, median of all events.
        cpu_ms: processor time of the gateway per event and listener.
    """

    listeners: int
    events: int
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    spread_ms: float
    cpu_ms: float


async def submits(url: str, rate: float, seconds: float, pid: int) -> Submits:
    """Submit one-task requests at a fixed rate to the gateway with process id `pid`."""
    due: asyncio.Queue[float | None] = asyncio.Queue()
    waits: list[float] = []
    failed = 0

    async def worker() -> None:
        nonlocal failed
        connection = Connection(url)
        while (at := await due.get()) is not None:
            status = await connection.send("POST", "/v1/runs", _request())
            await connection.body()
            waits.append(time.perf_counter() - at)
            failed += status != 202
        connection.close()

    workers = [asyncio.create_task(worker()) for _ in range(CONNECTIONS)]
    spent, own = _processor(pid), time.process_time()
    began = time.perf_counter()
    count = int(rate * seconds)
    for number in range(count):
        at = began + number / rate
        if (pause := at - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        due.put_nowait(at)
    for _ in workers:
        due.put_nowait(None)
    await asyncio.gather(*workers)
    took = time.perf_counter() - began
    own = round((time.process_time() - own) / count * 1000, 3)
    ordered = sorted(waits)
    p50, p99 = _ms(ordered, 0.5), _ms(ordered, 0.99)
    return Submits(rate, count, round(count / took, 1), p50, p99, failed, _each(spent, pid, count), own)


async def fanned(url: str, listeners: int, events: int, pid: int) -> Fanned:
    """Let many listeners follow one run, and pause and resume it to cause events."""
    request = json.loads(_request())
    request["task_groups"][0]["tasks"][0]["external_dependencies"] = ["never"]
    request["session_id"] = request["request_id"]
    _, accepted = await call(url, "POST", "/v1/runs", request)
    path = f"/v1/runs/{accepted['run_id']}"
    heard: dict[int, list[tuple[float, float]]] = {}
    following = [asyncio.create_task(_listen(url, path, heard)) for _ in range(listeners)]
    await _until(lambda: len(heard.get(1, ())) == listeners)
    spent = _processor(pid)
    for number in range(events):
        before = max(heard)
        status, _ = await call(url, "POST", f"{path}/{'pause' if number % 2 == 0 else 'resume'}")
        assert status == 202, status
        await _until(lambda seen=before: max(heard) > seen and len(heard[max(heard)]) == listeners)
    each = _each(spent, pid, events * listeners)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    await call(url, "POST", f"{path}/cancel")
    measured = [heard[seq] for seq in sorted(heard)[-events:]]
    waits = sorted(arrival - at for each in measured for at, arrival in each)
    spreads = [max(a for _, a in each) - min(a for _, a in each) for each in measured]
    return Fanned(
        listeners,
        events,
        _ms(waits, 0.5),
        _ms(waits, 0.99),
        _ms(waits, 1),
        round(median(spreads) * 1000, 2),
        each,
    )


def _each(spent: float, pid: int, count: int) -> float:
    return round((_processor(pid) - spent) / count * 1000, 3)


def _processor(pid: int) -> float:
    """Processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _listen(url: str, path: str, heard: dict[int, list[tuple[float, float]]]) -> None:
    connection = Connection(url)
    try:
        status = await connection.send("GET", f"{path}/events", accept="text/event-stream")
        assert status == 200, status
        async for event in connection.events():
            at = datetime.fromisoformat(event["time"]).timestamp()
            heard.setdefault(event["seq"], []).append((at, time.time()))
    finally:
        connection.close()


async def _until(holds: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"an event did not arrive within {seconds:g} s"
        await asyncio.sleep(0.005)


def _request() -> bytes:
    task = {"name": "t", "agent": "echo", "inputs": {"n": 1}, "result_keys": ["k"]}
    document = {"request_id": str(uuid.uuid4()), "task_groups": [{"name": "g", "tasks": [task]}]}
    return json.dumps(document).encode()


def _ms(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2)


def document(figure: Submits | Fanned) -> dict[str, Any]:
    """The JSON document of a measurement."""
    return {"kind": type(figure).__name__.lower(), **asdict(figure)}
