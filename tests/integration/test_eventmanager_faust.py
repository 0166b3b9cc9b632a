"""The EventManager on Faust and a real Kafka: same views as the plain loop, and they survive a restart."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from eventmanager_records import batch, entry, recording, wide_run
from servers.process import ServerHandle

from anabranch.adapters.kafka.log import KafkaLog
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.adapters.redis.store import RedisStore
from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.events import EventBatch, encode_batch
from anabranch.core.wire.run_view import RunView
from anabranch.ports import EventLog, Outgoing, TopicSpec, Write
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.reading.views import load_view
from anabranch_eventmanager.app import build, build_embedded
from anabranch_eventmanager.service import EventManager

PARTITIONS = 3


class RecordedClock:
    """Runs at real speed, from shortly after the times in the recording, so that nothing of it has expired."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def now(self) -> float:
        return 100 + self.monotonic() - self._began

    def monotonic(self) -> float:
        return time.monotonic()


class Redis:
    """Replaces Redis: the store and channels in memory, shared by all managers of a test."""

    def __init__(self) -> None:
        self.server = MemoryServer(RecordedClock())
        self.store = MemoryStore(self.server)
        self.notifier = MemoryNotifier(self.server)


async def _create(log: EventLog, names: Names) -> None:
    await log.create_topics([TopicSpec(topic, PARTITIONS) for topic in names.topics])


async def _publish(log: EventLog, names: Names, records: list[tuple[str, bytes]]) -> None:
    await log.publish([Outgoing(names.events, key, value) for key, value in records])


async def _ended(redis: Redis, names: Names, run: str) -> RunView:
    async with asyncio.timeout(30):
        while (view := await load_view(redis.store, names, run)) is None or view.ended_at is None:
            await asyncio.sleep(0.02)
        return view


def _resources(settings: Settings, names: Names, log: EventLog, redis: Redis, clock: RecordedClock) -> Resources:
    return Resources(settings, names, log, redis.store, redis.notifier, clock, SystemIds(clock), Supervisor())


@asynccontextmanager
async def _on_faust(
    kafka: str, names: Names, redis: Redis, nudge_after: float = 30.0
) -> AsyncIterator[EventManager]:
    clock = RecordedClock()
    settings = Settings(brokers=kafka, prefix=names.prefix, nudge_after=nudge_after)
    log = await KafkaLog.connect(kafka)
    resources = _resources(settings, names, log, redis, clock)
    manager = build(resources)
    try:
        await manager.start()
        yield manager
        await manager.drain()
    finally:
        await manager.stop()
        await resources.supervisor.close()
        await log.close()


async def _embedded_views(records: list[tuple[str, bytes]], runs: list[str]) -> list[RunView]:
    clock = RecordedClock()
    redis = Redis()
    log = MemoryLog(MemoryBroker(), clock)
    names = Names("m.")
    await _create(log, names)
    manager = build_embedded(_resources(Settings(), names, log, redis, clock))
    await manager.start()
    await _publish(log, names, records)
    views = [await _ended(redis, names, run) for run in runs]
    await manager.stop()
    await log.close()
    return views


async def _nudged(log: EventLog, names: Names, count: int) -> list[str]:
    """The run ids of the first nudges on the log."""
    found: list[str] = []
    async with asyncio.timeout(30), log.read(names.groups, start="earliest") as reader:
        async for batch in reader:
            found += [GROUPS.decode(record.value).message.run_id for record in batch]
            if len(found) >= count:
                return found[:count]
    raise AssertionError


async def _embedded_nudges(records: list[tuple[str, bytes]], count: int) -> list[str]:
    clock, redis, names = RecordedClock(), Redis(), Names("m.")
    log = MemoryLog(MemoryBroker(), clock)
    await _create(log, names)
    manager = build_embedded(_resources(Settings(nudge_after=0.5), names, log, redis, clock))
    await manager.start()
    await _publish(log, names, records)
    found = await _nudged(log, names, count)
    await manager.drain()
    await manager.stop()
    await log.close()
    return found


@pytest.fixture
async def kafka_log(kafka: str) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.connect(kafka)
    yield log
    await log.close()


async def test_the_same_records_give_the_same_views_as_in_the_plain_loop(
    kafka: str, kafka_log: KafkaLog, prefix: str
) -> None:
    names, redis = Names(prefix), Redis()
    await _create(kafka_log, names)

    async with _on_faust(kafka, names, redis):
        await _publish(kafka_log, names, recording())
        views = [await _ended(redis, names, run) for run in ("run-1", "run-2")]

    assert views == await _embedded_views(recording(), ["run-1", "run-2"])


async def test_the_same_silent_runs_are_nudged_as_in_the_plain_loop(
    kafka: str, kafka_log: KafkaLog, prefix: str
) -> None:
    """Of three open runs, one has declared a silence, and one has a worker that is alive."""
    names, redis = Names(prefix), Redis()
    await _create(kafka_log, names)
    silent, quiet = wide_run()[:3], EventBatch(run_id="q", session_id="s", source="groups", entries=(), quiet=True)
    busy = batch("b", "groups", 1, entry("task.started", 1, "g", "t", attempt=1, worker="w"))
    accepted = [(run_id, batch(run_id, "runs", 1, entry("run.accepted", 1))) for run_id in ("q", "b")]
    records = [*(("run-1", value) for value in silent), *accepted, ("q", encode_batch(quiet)), ("b", busy)]

    async with _on_faust(kafka, names, redis, nudge_after=0.5):
        await redis.store.put([Write(names.worker("w"), b"1", 600.0)])
        await _publish(kafka_log, names, records)
        found = await _nudged(kafka_log, names, 2)

    assert found == ["run-1", "run-1"]
    assert sorted(set(await _embedded_nudges(records, 4))) == ["b", "run-1"]  # no worker is alive there


async def test_the_state_survives_in_the_next_process(kafka: str, kafka_log: KafkaLog, prefix: str) -> None:
    """Stops one manager during a run; the next one never reads the first half of the records."""
    names, redis = Names(prefix), Redis()
    await _create(kafka_log, names)
    records = [("run-1", value) for value in wide_run()]
    partition = await kafka_log.partition_for(names.events, "run-1")
    async with _on_faust(kafka, names, redis) as first:
        await _publish(kafka_log, names, records[:4])
        async with asyncio.timeout(30):
            while (first.projector.documents_of(partition) or {}).get("run/run-1", {}).get("offset") != 3:
                await asyncio.sleep(0.02)
    assert (await kafka_log.group_lag(names.eventmanager, names.events))[partition] == 0

    async with _on_faust(kafka, names, redis):
        await _publish(kafka_log, names, records[4:])
        view = await _ended(redis, names, "run-1")

    assert [view] == await _embedded_views(records, ["run-1"])


async def test_partitions_are_shared_and_taken_over(kafka: str, kafka_log: KafkaLog, prefix: str) -> None:
    names, redis = Names(prefix), Redis()
    await _create(kafka_log, names)

    async with _on_faust(kafka, names, redis) as first:
        assert sorted(first.projector.partitions()) == [0, 1, 2]
        async with _on_faust(kafka, names, redis) as second, asyncio.timeout(30):
            while sorted([*first.projector.partitions(), *second.projector.partitions()]) != [0, 1, 2]:
                await asyncio.sleep(0.05)
            assert second.projector.partitions()
            runs = [f"run {number}" for number in range(12)]
            await _publish(
                kafka_log, names, [(run, value) for run in runs for value in wide_run(run, f"r {run}")[:4]]
            )
        await _publish(kafka_log, names, [(run, value) for run in runs for value in wide_run(run, f"r {run}")[4:]])
        views = [await _ended(redis, names, run) for run in runs]

    assert {(view.status, view.failure_count) for view in views} == {("failed", 3)}


async def test_a_process_that_keeps_a_partition_in_a_rebalance_keeps_its_documents(
    kafka: str, kafka_log: KafkaLog, prefix: str
) -> None:
    """The runs began before the first of the two processes started, so it has them from the table only."""
    names, redis = Names(prefix), Redis()
    await _create(kafka_log, names)
    runs = [f"run {number}" for number in range(9)]
    async with _on_faust(kafka, names, redis):
        await _publish(kafka_log, names, [(run, value) for run in runs for value in wide_run(run, f"r {run}")[:4]])
        async with asyncio.timeout(30):
            while None in [await load_view(redis.store, names, run) for run in runs]:
                await asyncio.sleep(0.02)

    async with (
        _on_faust(kafka, names, redis) as first,
        _on_faust(kafka, names, redis) as second,
        asyncio.timeout(30),
    ):
        while sorted([*first.projector.partitions(), *second.projector.partitions()]) != [0, 1, 2]:
            await asyncio.sleep(0.05)
        assert first.projector.partitions()
        assert second.projector.partitions()
        await _publish(kafka_log, names, [(run, value) for run in runs for value in wide_run(run, f"r {run}")[4:]])
        views = [await _ended(redis, names, run) for run in runs]

    assert {(view.name, view.failure_count) for view in views} == {("demo", 3)}


async def test_no_files_are_left_and_nothing_is_logged_as_a_warning(
    kafka: str, kafka_log: KafkaLog, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    names = Names(prefix)
    await _create(kafka_log, names)

    with caplog.at_level(logging.ERROR):
        async with _on_faust(kafka, names, Redis()):
            pass

    assert list(tmp_path.iterdir()) == []
    assert [record.getMessage() for record in caplog.records] == []


def _service(kafka: str, redis_url: str, prefix: str, **more: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "ANABRANCH_BROKERS": kafka,
        "ANABRANCH_REDIS_URL": redis_url,
        "ANABRANCH_PREFIX": prefix,
        **more,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "anabranch_eventmanager"], env=environment, stderr=subprocess.PIPE, text=True
    )


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    seen = ""
    assert process.stderr is not None
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came: {seen}")


def test_the_process_is_ready_and_ends_in_seconds_on_a_signal(kafka: str, redis_url: str, prefix: str) -> None:
    process = _service(kafka, redis_url, prefix)
    try:
        _read_until(process, "anabranch eventmanager ready")
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, rest = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, rest
    assert time.monotonic() - began < 8
    assert "Traceback" not in rest


async def test_the_successor_of_a_killed_process_has_its_state(
    kafka: str, redis_url: str, prefix: str, kafka_log: KafkaLog
) -> None:
    """SIGKILL during a run, at a random instant."""
    names = Names(prefix)
    await _create(kafka_log, names)
    base = time.time()
    records = [("run-1", value) for value in wide_run(base=base)]
    store = await RedisStore.connect(redis_url)
    first = _service(kafka, redis_url, prefix)
    second = None
    try:
        await asyncio.to_thread(_read_until, first, "anabranch eventmanager ready")
        await _publish(kafka_log, names, records[:4])
        async with asyncio.timeout(30):
            while await load_view(store, names, "run-1") is None:
                await asyncio.sleep(0.02)
        first.kill()
        second = _service(kafka, redis_url, prefix)
        await _publish(kafka_log, names, records[4:])
        async with asyncio.timeout(40):
            while (view := await load_view(store, names, "run-1")) is None or view.ended_at is None:
                await asyncio.sleep(0.05)
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.communicate()
        await store.close()
    assert (view.failure_count, view.groups["g"].tasks["wide"].completed) == (3, 997)


def test_the_process_says_which_server_it_waits_for(redis_url: str, prefix: str) -> None:
    process = _service("127.0.0.1:1", redis_url, prefix)
    try:
        _read_until(process, "cannot start eventmanager, retrying in")
    finally:
        process.terminate()
        _, output = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "draining" not in output


async def test_reading_continues_after_a_broker_outage(broker_process: ServerHandle, prefix: str) -> None:
    """Kills the broker during a run and starts it again after some seconds."""
    names, redis, records = Names(prefix), Redis(), [("run-1", value) for value in wide_run()]
    log = await KafkaLog.connect(broker_process.address)
    await _create(log, names)

    async with _on_faust(broker_process.address, names, redis) as manager:
        await _publish(log, names, records[:4])
        broker_process.kill()
        await asyncio.sleep(5)
        broker_process.start()
        await _publish(log, names, records[4:])
        view = await _ended(redis, names, "run-1")
        assert manager.health().live

    assert view.failure_count == 3
    await log.close()
