"""The logger of librdkafka, rate-limited: while a broker is away, librdkafka repeats a line several times a
second.
"""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError

REPEAT_SECONDS = 30.0

LOGGER = logging.getLogger("anabranch.kafka.client")

_WARNED = {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._FATAL, KafkaError._SSL}

# Properties of an installation go to every client, so each gets some that only concern other kinds of clients.
_FOREIGN_PROPERTY = "CONFWARN"


class RepeatFilter(logging.Filter):
    """Passes one line of a kind in REPEAT_SECONDS, by the times of the log records. The kind is the level and the
    first word, which is librdkafka's name of the event (FAIL, REQTMOUT, ...)."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[int, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True if the line is logged."""
        kind = (record.levelno, record.getMessage().split(maxsplit=1)[0])
        if kind[1] == _FOREIGN_PROPERTY:
            return False
        if record.created - self._last.get(kind, 0.0) < REPEAT_SECONDS:
            return False
        self._last[kind] = record.created
        return True


def on_error(error: KafkaError) -> None:
    """Log an error that belongs to no single call. librdkafka recovers by itself, so it is no failure."""
    level = logging.WARNING if error.code() in _WARNED else logging.DEBUG
    LOGGER.log(level, "%s %s", error.name(), error.str())


LOGGER.addFilter(RepeatFilter())
