"""Publishes to Kafka: durable, ordered, with little overhead for each record.

Delivery reports are counted in the producer's thread, and the event loop is woken for complete calls only. All
topics share one producer: with one for each topic, requests do not wait for each other, but on two cores the
threads cost more than that saves (measured: a request of one task takes as long, a thousand runs a third longer).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from anabranch.adapters.encoding import header_items
from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.faults import error_of, translate
from anabranch.adapters.kafka.logs import LOGGER
from anabranch.adapters.kafka.polling import POLL_SECONDS, PollingThread
from anabranch.adapters.limits import RecordLimits, check_sizes, record_bytes
from anabranch.core.errors import AnabranchError, RecordTooLarge
from anabranch.ports import Outgoing

SLICE_RECORDS = 500
BATCH_BYTES = 1_000_000
FLUSH_SECONDS = 30.0

_ANY_PARTITION = -1
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE}

_log = logging.getLogger("anabranch.kafka")


class PublishCall:
    """One `publish` call in flight: offsets by position, and the first error.

    Delivery reports are counted in the producer's thread, refusals on the loop, so each counter has one writer.
    """

    def __init__(self, records: Sequence[Outgoing]) -> None:
        self.records = records
        self.offsets = [-1] * len(records)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.appended = 0
        """Number of records that were passed to librdkafka."""
        self.error: KafkaError | None = None
        self.failed: Outgoing | None = None
        self._reported = self._refused = 0

    def report(self, index: int, error: KafkaError | None, offset: int) -> bool:
        """Take the delivery report of one record; True if the call is complete. For the producer's thread."""
        self.offsets[index] = offset
        if error is not None:
            self._fail(index, error)
        self._reported += 1
        return self._is_complete()

    def refuse(self, index: int, error: KafkaError) -> None:
        """Note that librdkafka did not take a record. On the loop."""
        self._fail(index, error)
        self._refused += 1
        if self._is_complete():
            self.settle()

    def give_up(self, error: KafkaError) -> None:
        """Refuse all records that were not passed to librdkafka. On the loop."""
        for index in range(self.appended, len(self.records)):
            self.refuse(index, error)

    def raise_error(self, error: Exception) -> None:
        """Raise an unexpected error at the caller. On the loop."""
        if not self.done.done():
            self.done.set_exception(error)

    def settle(self) -> None:
        """Wake the caller. On the loop; a further call has no effect."""
        if not self.done.done():
            self.done.set_result(None)

    def _fail(self, index: int, error: KafkaError) -> None:
        if self.error is None:
            self.failed, self.error = self.records[index], error

    def _is_complete(self) -> bool:
        return self._reported + self._refused == len(self.records)


def delivery_result(error: KafkaError | None, offset: int | None) -> tuple[KafkaError | None, int]:
    """The result of a delivery report: an error, or the offset of the record.

    If librdkafka mistook the success of a later batch for that of this one, it reports no offset. The record may
    or may not be in the log then, and the caller has to send it again.
    """
    if error is None and offset is None:
        return KafkaError(KafkaError._STATE, "acknowledged without an offset"), -1
    return error, -1 if offset is None else offset


_PRODUCER_ENDED = frozenset({KafkaError._FATAL, KafkaError._PURGE_QUEUE})
"""Error codes of records that a producer still held when it failed; they do not tell why it failed."""


class ProducerThread:
    """One producer with its thread.

    Calls of one iteration of the loop are passed to librdkafka together. It wakes its thread once, and sends them
    in one batch for each partition. Acknowledgements reach a busy loop in one call, too.
    """

    def __init__(self, settings: KafkaSettings, batch_bytes: int) -> None:
        self.batch_bytes = batch_bytes
        self._producer = Producer(settings.producer(batch_bytes), logger=LOGGER)
        self._queued: deque[PublishCall] = deque()
        self._complete: list[PublishCall] = []
        self._needs_space = False
        self.broken = False
        self._fatal: KafkaError | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = PollingThread("anabranch-producer", self._poll, self._flush)
        self._thread.start()

    def append(self, call: PublishCall) -> None:
        """Queue a call, after all earlier ones."""
        self._queued.append(call)
        if len(self._queued) == 1:
            self._loop.call_soon(self._append_queued)

    async def close(self) -> None:
        """Flush, then end the thread."""
        self._append_queued()
        await self._thread.stop()
        # The buffer is full of records that a broker does not take.
        for call in self._queued:
            call.give_up(KafkaError(KafkaError._PURGE_QUEUE, "the client is closed"))

    def _append_queued(self) -> None:
        """Pass queued calls to librdkafka, until its buffer is full: then `_settle` continues."""
        left = SLICE_RECORDS
        while self._queued:
            call = self._queued[0]
            if call.done.done() and not call.appended:  # the caller was cancelled
                self._queued.popleft()
                continue
            stop = min(call.appended + left, len(call.records))
            left -= stop - call.appended
            try:
                self._produce(call, stop)
            except BufferError:
                self._needs_space = True
                return
            except Exception as error:  # noqa: BLE001 - of a record that librdkafka does not take, such as its headers
                call.raise_error(error)
            if call.appended == len(call.records) or call.done.done():
                self._queued.popleft()
            if not left and self._queued:
                # Other callbacks run between two slices.
                self._loop.call_soon(self._append_queued)
                return

    def _produce(self, call: PublishCall, stop: int) -> None:
        """Append the records of a call up to `stop`. Raises BufferError while librdkafka's buffer is full."""
        produce, report = self._producer.produce, self._report
        while call.appended < stop:
            index = call.appended
            record = call.records[index]
            partition = _ANY_PARTITION if record.partition is None else record.partition
            try:
                produce(
                    record.topic,
                    None if record.is_null else record.value,
                    record.key,
                    partition,
                    partial(report, call, index),
                    headers=list(header_items(record.headers)) if record.headers else None,
                )
            except KafkaException as refused:
                call.refuse(index, self._check_fatal(error_of(refused)))
            call.appended += 1

    def _report(self, call: PublishCall, index: int, error: KafkaError | None, message: Any) -> None:
        # librdkafka calls this only within `poll` and `flush`, so only the thread touches the list.
        failure, offset = delivery_result(error, message.offset())
        if failure is not None:
            failure = self._check_fatal(failure)
        if call.report(index, failure, offset):
            self._complete.append(call)

    def _poll(self) -> None:
        try:
            self._producer.poll(POLL_SECONDS)
        except KafkaException as ended:
            self._end(error_of(ended))
        if (self._complete or self._needs_space) and self._thread.hand_over(self._settle, self._complete):
            self._complete = []

    def _end(self, fatal: KafkaError) -> None:
        """Mark this producer as unusable, with the reason: the errors of its records do not have it."""
        if self._fatal is None:
            self._fatal, self.broken = fatal, True
            _log.warning("a Kafka producer has failed; the next record creates a new one: %s", fatal.str())
        self._thread.rest()  # a failed producer no longer blocks in poll

    def _flush(self) -> None:
        left = self._producer.flush(FLUSH_SECONDS)
        self._thread.post(self._settle, self._complete)
        if left:
            _log.error("%d records were not delivered within %g s of closing", left, FLUSH_SECONDS)

    def _settle(self, complete: list[PublishCall]) -> None:
        for call in complete:
            call.settle()
        if self._needs_space:
            self._needs_space = False
            self._append_queued()

    def _check_fatal(self, error: KafkaError) -> KafkaError:
        """Check a report for a fatal error, after which an idempotent producer is unusable and has to be
        replaced."""
        self.broken = self.broken or error.fatal()
        return self._fatal or error if error.code() in _PRODUCER_ENDED else error


class KafkaPublisher:
    """Sends records; replaces a producer that has failed."""

    def __init__(self, settings: KafkaSettings, limits: RecordLimits) -> None:
        self._settings = settings
        self._limits = limits
        self._current: ProducerThread | None = None
        self._retired: list[ProducerThread] = []

    def warm(self) -> None:
        """Create the producer in advance: getting its id from the broker can take half a second."""
        self._working_producer()

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See `ports.EventLog`."""
        check_sizes(records, self._limit_of)
        if not records:
            return []
        call = PublishCall(records)
        self._working_producer().append(call)
        await call.done
        if call.error is not None and call.failed is not None:
            raise self._failure(call.error, call.failed)
        return call.offsets

    async def close(self) -> None:
        """Flush every record, then end the threads."""
        producers = [*self._retired, *([self._current] if self._current is not None else [])]
        await asyncio.gather(*(producer.close() for producer in producers))
        self._current = None
        self._retired.clear()

    def _working_producer(self) -> ProducerThread:
        batch_bytes = self._limits.smallest(min(self._settings.max_record_bytes, BATCH_BYTES))
        if self._current is not None and (self._current.broken or self._current.batch_bytes > batch_bytes):
            # A running producer can neither be repaired nor get another batch size. Its records may still be in
            # flight, so it is only closed at the end.
            self._retired.append(self._current)
            self._current = None
        if self._current is None:
            self._current = ProducerThread(self._settings, batch_bytes)
        return self._current

    def _limit_of(self, topic: str) -> int:
        return self._limits.known(topic, self._settings.max_record_bytes)

    def _failure(self, error: KafkaError, record: Outgoing) -> AnabranchError:
        if error.code() in _TOO_LARGE:
            limit = self._limit_of(record.topic)
            size = record_bytes(record)
            self._limits.refused(record.topic, size)
            return RecordTooLarge(record.topic, size, limit)
        return translate(error, self._settings.brokers, f"publishing to {record.topic}")
