"""Where log lines go: standard error, one line each, as text for people or JSON for collectors.

Libraries' loggers are brought to the same handler; librdkafka's own lines go to `KAFKA_LOGGER`, because it
would write to standard error at length when a broker is away. Standard output stays free for results.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

LogFormat = Literal["text", "json"]

KAFKA_LOGGER = logging.getLogger("anabranch.kafka.client")
"""For the `logger` argument of confluent-kafka's clients."""

SECRETIVE = ("aiokafka.conn",)
"""They write whole requests at DEBUG, passwords and tokens of the login among them: never below INFO."""

QUIET = ("aiokafka", "faust", "mode", "kafka")
"""Libraries that report their own routine at INFO: shown from WARNING on, unless DEBUG is asked for."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def set_up_logging(level: str = "INFO", style: LogFormat = "text", stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream` (standard error), replacing what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(level if level == "DEBUG" else max(logging.WARNING, root.level))
    for name in SECRETIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger(name.partition(".")[0]).level))


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO  anabranch.agency  message  key=value`"""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback after it where there is one."""
        extra = "".join(f"  {name}={value}" for name, value in _extra(record).items())
        text = f"{_time(record)} {record.levelname:<7} {record.name}  {_one_line(record.getMessage())}{extra}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, whatever `extra` held, and `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        document = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
