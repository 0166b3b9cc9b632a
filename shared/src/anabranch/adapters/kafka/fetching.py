"""Fetches librdkafka's messages as batches of records. Runs in a consumer's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError

from anabranch.adapters.kafka.faults import is_denied
from anabranch.adapters.lifecycle import TopicPartition
from anabranch.ports import Incoming

BATCH_RECORDS = 500
BUSY_SECONDS = 0.01
IDLE_SECONDS = 0.05
_BUSY_POLLS = 200

Batches = dict[TopicPartition, list[Incoming]]

_log = logging.getLogger("anabranch.kafka")


class Pace:
    """Timeout of the next poll. A record ends a poll at once, but a command waits for its end. Polls are therefore
    short for about two seconds after any activity, and longer when idle, to save CPU time."""

    def __init__(self) -> None:
        self._busy_polls = _BUSY_POLLS

    def quicken(self) -> None:
        """Note activity."""
        self._busy_polls = _BUSY_POLLS

    def seconds(self) -> float:
        """The timeout of the next poll in seconds."""
        self._busy_polls -= 1
        return BUSY_SECONDS if self._busy_polls > 0 else IDLE_SECONDS


def fetch(consumer: Consumer, timeout: float, denied: Callable[[KafkaError], None]) -> Batches:
    """Records that have arrived, in offset order for each partition; empty if none arrived in time.

    `denied` is called if the brokers do not permit this client to read.

    `consume(n, timeout)` would hold a single record back until the timeout, so the first record is read by `poll`,
    and those that are already there by `consume` without a timeout.
    """
    first = consumer.poll(timeout)
    if first is None:
        return {}
    batches: Batches = {}
    for message in (first, *consumer.consume(BATCH_RECORDS - 1, 0)):
        if (error := message.error()) is not None:
            if is_denied(error):
                denied(error)
            else:
                _log.warning("reading %s: %s", message.topic() or "", error)
            continue
        record = incoming(message)
        batches.setdefault((record.topic, record.partition), []).append(record)
    return batches


def incoming(message: Any) -> Incoming:
    """Convert a message without an error to a record."""
    headers, value = message.headers(), message.value()
    return Incoming(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        value or b"",
        tuple(headers) if headers else (),
        message.timestamp()[1] / 1000,
        value is None,
    )
