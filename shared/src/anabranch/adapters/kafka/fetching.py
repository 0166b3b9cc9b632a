"""From librdkafka's messages to batches of the system's own records. Runs in a consumer's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError

from anabranch.adapters.kafka.faults import is_denied
from anabranch.adapters.lifecycle import TopicPartition
from anabranch.ports import Incoming

BATCH_RECORDS = 500
LIVELY_SECONDS = 0.01
QUIET_SECONDS = 0.05
_LIVELY_TURNS = 200

Batches = dict[TopicPartition, list[Incoming]]

_log = logging.getLogger("anabranch.kafka")


class Pace:
    """How long one poll may last. Records end a poll at once, but commands wait for its end: so polls are
    short for about two seconds after anything happened, and longer, to spend nothing, when all is quiet."""

    def __init__(self) -> None:
        self._lively = _LIVELY_TURNS

    def quicken(self) -> None:
        """Something happened."""
        self._lively = _LIVELY_TURNS

    def seconds(self) -> float:
        """The next poll's limit."""
        self._lively -= 1
        return LIVELY_SECONDS if self._lively > 0 else QUIET_SECONDS


def fetch(consumer: Consumer, timeout: float, denied: Callable[[KafkaError], None]) -> Batches:
    """What has arrived, in offset order for each partition; empty where nothing came in time.

    `denied` is told where the brokers will not have this client read.

    `consume(n, timeout)` would hold a lone record back until the timeout: so one by `poll`, then the rest
    of what is there.
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
    """One record as the ports have it, from a message without an error."""
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
