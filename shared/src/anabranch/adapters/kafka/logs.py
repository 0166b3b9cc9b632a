"""The logger that librdkafka writes to, calmed: while a broker is away it repeats itself several times a second.

Only filters; who sees the log is the application's business.
"""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError

REPEAT_SECONDS = 30.0

LOGGER = logging.getLogger("anabranch.kafka.client")

_LOUD = {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._FATAL, KafkaError._SSL}

# An installation's properties go to every client, so that each sees some that concern only others.
_FOREIGN_PROPERTY = "CONFWARN"


class Calm(logging.Filter):
    """Lets one line of a kind through in REPEAT_SECONDS, by the records' own times. The kind is the level
    and the first word, which is librdkafka's name of the event (FAIL, REQTMOUT, ...)."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[int, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be seen."""
        kind = (record.levelno, record.getMessage().split(maxsplit=1)[0])
        if kind[1] == _FOREIGN_PROPERTY:
            return False
        if record.created - self._last.get(kind, 0.0) < REPEAT_SECONDS:
            return False
        self._last[kind] = record.created
        return True


def on_error(error: KafkaError) -> None:
    """What librdkafka cannot tie to one call. It goes on by itself, so it is news, not a failure."""
    level = logging.WARNING if error.code() in _LOUD else logging.DEBUG
    LOGGER.log(level, "%s %s", error.name(), error.str())


LOGGER.addFilter(Calm())
