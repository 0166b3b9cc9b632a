"""Sets up logging: one line per record on standard error, as text for people or JSON for log collectors.

structlog renders the records of the standard library's loggers and of its own. A line has the run, group, task and
trace that the code worked for, if known. Loggers of libraries use the same handler. librdkafka logs to
`KAFKA_LOGGER`; by itself it would write many lines to standard error while a broker is unavailable. Standard
output is only for results.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

import orjson

from anabranch.core.visible import visible
from anabranch.runtime.instrumentation.correlation import work_ids

if TYPE_CHECKING:  # structlog takes a while to import, and nearly every module imports this one
    from structlog.types import EventDict, WrappedLogger

LogFormat = Literal["text", "json"]

KAFKA_LOGGER = logging.getLogger("anabranch.kafka.client")
"""For the `logger` argument of confluent-kafka's clients."""

ATTEMPTS_LOGGER = logging.getLogger("anabranch.attempts")
"""Logger with one line per failed attempt of a member, rate-limited for each task."""

NEVER_DEBUG = ("aiokafka.conn",)
"""Loggers whose DEBUG lines have whole requests, including passwords and tokens: their level is INFO or more."""

QUIET = ("aiokafka", "faust", "mode", "kafka", "opentelemetry", "urllib3")
"""Libraries that log routine work at INFO: their level is WARNING or more, except at level DEBUG."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_OWN = frozenset({"_record", "_from_structlog", "_logger", "_name", "event", "exc_info"})
"""Keys of an event that structlog sets, not the caller."""
_FIRST = ("time", "level", "logger", "message")


def set_up_logging(level: str = "INFO", style: LogFormat = "text", stream: TextIO | None = None) -> None:
    """Send the lines of all loggers to `stream` (default: standard error). Replaces existing handlers."""
    import structlog

    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        library = logging.getLogger(name)
        # Its lines must reach the handler of the root logger, and only that one.
        library.handlers.clear()
        library.propagate = True
        library.setLevel(level if level == "DEBUG" else max(logging.WARNING, root.level))
    for name in NEVER_DEBUG:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger(name.partition(".")[0]).level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def formatter(style: LogFormat) -> logging.Formatter:
    """The formatter of a log format, for any handler."""
    import structlog

    return structlog.stdlib.ProcessorFormatter(processors=[_described, _json if style == "json" else _text])


def _described(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """The fields of a line: time, level, logger, message, ids of the current work, and fields of the caller."""
    record: logging.LogRecord = event["_record"]
    message = event.get("event", "")
    added = {name: value for name, value in event.items() if name not in _OWN}
    return {
        "time": _time(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message if isinstance(message, str) else str(message),
        **work_ids(),
        **{name: value for name, value in record.__dict__.items() if name not in _STANDARD and name not in _OWN},
        **added,
        **_error(event.get("exc_info")),
    }


def _text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Render `2026-01-02T03:04:05.678Z INFO    anabranch.agent  message  key=value`, followed by a traceback."""
    extra = "".join(f"  {name}={value}" for name, value in event.items() if name not in (*_FIRST, "error"))
    line = f"{event['time']} {event['level'].upper():<7} {event['logger']}  {_one_line(event['message'])}{extra}"
    return visible(f"{line}\n{event['error']}" if "error" in event else line)


def _json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Render one JSON object: time, level, logger, message, ids, the fields of `extra`, and `error`."""
    return orjson.dumps(dict(event), default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _error(exc_info: Any) -> Mapping[str, str]:
    if exc_info is True:
        exc_info = sys.exc_info()
    elif isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if not exc_info or exc_info[0] is None:
        return {}
    return {"error": logging.Formatter().formatException(exc_info)}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
