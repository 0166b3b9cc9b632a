"""Where log lines go: standard error, one line each, as text for people or JSON for collectors.

structlog renders them, whichever logger they come from: the standard library's, or one of structlog's own. A line
says on whose behalf it was written, where that is known: run, group, task and trace, out of the context that code
works in. Libraries' loggers are brought to the same handler; librdkafka's own lines go to `KAFKA_LOGGER`, because
it would write to standard error at length when a broker is away. Standard output stays free for results.
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

SECRETIVE = ("aiokafka.conn",)
"""They write whole requests at DEBUG, passwords and tokens of the login among them: never below INFO."""

QUIET = ("aiokafka", "faust", "mode", "kafka", "opentelemetry", "urllib3")
"""Libraries that report their own routine at INFO: shown from WARNING on, unless DEBUG is asked for."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_OWN = frozenset({"_record", "_from_structlog", "_logger", "_name", "event", "exc_info"})
"""What structlog puts beside what a caller adds."""
_FIRST = ("time", "level", "logger", "message")


def set_up_logging(level: str = "INFO", style: LogFormat = "text", stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream` (standard error), replacing what was set up before."""
    import structlog

    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter(style))
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
    """The formatter of a style, for any handler."""
    import structlog

    return structlog.stdlib.ProcessorFormatter(processors=[_described, _json if style == "json" else _text])


def _described(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """What every line says: when, how bad, who, what; on whose behalf; and what the caller added."""
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
    """`2026-01-02T03:04:05.678Z INFO    anabranch.agent  message  key=value`, and a traceback after it."""
    extra = "".join(f"  {name}={value}" for name, value in event.items() if name not in (*_FIRST, "error"))
    line = f"{event['time']} {event['level'].upper():<7} {event['logger']}  {_one_line(event['message'])}{extra}"
    return visible(f"{line}\n{event['error']}" if "error" in event else line)


def _json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """One JSON object a line: time, level, logger, message, ids, whatever `extra` held, and `error`."""
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
