"""Settings and acknowledgements of the Kafka producer that keep records from being lost, and how calls reach its
buffer. Needs no broker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, Queue
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError

from anabranch.adapters.kafka import producer
from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.polling import PollingThread
from anabranch.adapters.kafka.producer import KafkaPublisher, delivery_result
from anabranch.adapters.limits import RecordLimits
from anabranch.core.errors import ServerUnavailable
from anabranch.ports import Outgoing


def test_settings_cannot_weaken_the_durability_of_records() -> None:
    loose = {
        "acks": "1",
        "enable.idempotence": "false",
        "max.in.flight.requests.per.connection": "5",
        "partitioner": "random",
        "linger.ms": "7",
    }

    settings = KafkaSettings("localhost:9092", loose).producer()

    assert settings["acks"] == "all"
    assert settings["enable.idempotence"] is True
    assert settings["max.in.flight.requests.per.connection"] == 1
    assert settings["partitioner"] == "murmur2_random"
    assert settings["linger.ms"] == "7"


def test_a_report_gives_the_offset_or_the_error() -> None:
    late = KafkaError(KafkaError._MSG_TIMED_OUT)

    assert delivery_result(None, 12) == (None, 12)
    assert delivery_result(late, None) == (late, -1)


def test_an_acknowledgement_without_an_offset_is_no_acknowledgement() -> None:
    error, offset = delivery_result(None, None)

    assert error is not None
    assert "without an offset" in error.str()
    assert offset == -1


def test_a_short_poll_interval_is_accepted_by_every_consumer() -> None:
    """librdkafka refuses an interval shorter than the session timeout, even for consumers without a session."""
    settings = KafkaSettings("localhost:1", {"max.poll.interval.ms": "9000"})

    for properties in (settings.member("g"), settings.asker("g"), settings.reader()):
        Consumer(properties).close()


class Buffer:
    """Stands in for librdkafka's producer: takes `room` records, reports them in `poll`."""

    def __init__(self) -> None:
        self.room = 1_000
        self.taken: list[bytes] = []
        self.unreported: deque[tuple[Callable[[None, Any], None], int]] = deque()
        self.holds_back = False

    def produce(self, topic: str, value: bytes, key: str, partition: int, report: Any, headers: Any) -> None:
        """See confluent_kafka."""
        if len(self.unreported) >= self.room:
            raise BufferError
        if headers == [("bad", 1)]:
            raise TypeError("a header is no text")
        self.unreported.append((report, len(self.taken)))
        self.taken.append(value)

    def poll(self, seconds: float) -> int:
        """See confluent_kafka."""
        time.sleep(0.001)
        return 0 if self.holds_back else self._report()

    def flush(self, seconds: float) -> int:
        """See confluent_kafka."""
        if not self.holds_back:
            self._report()
        return len(self.unreported)

    def _report(self) -> int:
        # One at a time: `produce` appends in another thread meanwhile.
        reported = 0
        while self.unreported:
            report, offset = self.unreported.popleft()
            report(None, SimpleNamespace(offset=lambda offset=offset: offset))
            reported += 1
        return reported


@pytest.fixture
def buffer(monkeypatch: pytest.MonkeyPatch) -> Buffer:
    found = Buffer()
    monkeypatch.setattr(producer, "Producer", lambda *_, **__: found)
    return found


def records(*values: bytes, **more: Any) -> list[Outgoing]:
    return [Outgoing("t", "k", value, **more) for value in values]


async def test_calls_of_one_iteration_go_to_the_buffer_together_and_in_order(buffer: Buffer) -> None:
    publisher = KafkaPublisher(KafkaSettings("h:1"), RecordLimits())
    seen: list[list[bytes]] = []

    async def publishes(*values: bytes) -> Sequence[int]:
        seen.append(list(buffer.taken))
        return await publisher.publish(records(*values))

    offsets = await asyncio.gather(publishes(b"1", b"2"), publishes(b"3"), publishes(b"4"))
    await publisher.close()

    assert offsets == [[0, 1], [2], [3]]
    assert buffer.taken == [b"1", b"2", b"3", b"4"]
    assert seen == [[], [], []]


async def test_a_full_buffer_delays_calls_and_keeps_their_order(buffer: Buffer) -> None:
    buffer.room = 3
    publisher = KafkaPublisher(KafkaSettings("h:1"), RecordLimits())
    values = [b"%d" % number for number in range(20)]

    calls = [publisher.publish(records(*values[start : start + 5])) for start in range(0, 20, 5)]
    offsets = await asyncio.gather(*calls)
    await publisher.close()

    assert [each for call in offsets for each in call] == list(range(20))
    assert buffer.taken == values


async def test_many_records_are_appended_in_slices(buffer: Buffer) -> None:
    buffer.room = 10_000
    publisher = KafkaPublisher(KafkaSettings("h:1"), RecordLimits())
    values = [b"%d" % number for number in range(2 * producer.SLICE_RECORDS + 1)]

    assert await publisher.publish(records(*values)) == list(range(len(values)))
    await publisher.close()


async def test_a_record_that_the_client_does_not_take_fails_its_own_call_only(buffer: Buffer) -> None:
    publisher = KafkaPublisher(KafkaSettings("h:1"), RecordLimits())

    bad = publisher.publish(records(b"bad", headers={"bad": 1}))
    found = await asyncio.gather(
        publisher.publish(records(b"1")), bad, publisher.publish(records(b"2")), return_exceptions=True
    )
    await publisher.close()

    assert isinstance(found[1], TypeError)
    assert [found[0], found[2]] == [[0], [1]]


async def test_a_call_that_was_cancelled_before_it_was_appended_is_not_sent(buffer: Buffer) -> None:
    publisher = KafkaPublisher(KafkaSettings("h:1"), RecordLimits())
    cancelled = asyncio.create_task(publisher.publish(records(b"cancelled")))
    await asyncio.sleep(0)
    cancelled.cancel()

    assert await publisher.publish(records(b"1")) == [0]
    await publisher.close()

    assert buffer.taken == [b"1"]


async def test_what_a_full_buffer_did_not_take_fails_when_the_client_is_closed(buffer: Buffer) -> None:
    buffer.room, buffer.holds_back = 1, True
    publisher = KafkaPublisher(KafkaSettings("h:1"), RecordLimits())
    waiting = asyncio.create_task(publisher.publish(records(b"1", b"2")))
    later = asyncio.create_task(publisher.publish(records(b"3")))
    await asyncio.sleep(0.01)

    await publisher.close()

    with pytest.raises(ServerUnavailable):
        await later
    waiting.cancel()
    assert buffer.taken == [b"1"]


async def test_a_busy_loop_is_woken_once_for_what_arrives_meanwhile() -> None:
    arrived: Queue[int] = Queue()
    got: list[list[int]] = []

    def turn() -> None:
        with contextlib.suppress(Empty):
            batch = [arrived.get(timeout=0.01)]
            while not arrived.empty():
                batch.append(arrived.get())
            thread.hand_over(got.append, batch)

    thread = PollingThread("test", turn, lambda: None)
    thread.start()
    for number in range(100):
        arrived.put(number)
        time.sleep(0.001)  # the loop is busy
    await asyncio.sleep(0.1)
    await thread.stop()

    assert [each for batch in got for each in batch] == list(range(100))
    assert len(got) <= 3
