"""An agent's log: standard log records in the worker, and `task.log` events in the run.

The number and the length of the lines that become events are limited here; lines over the limit are counted. No
argument of an agent raises an error here: a line that cannot be formatted is replaced by the reason.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson

MAX_LINES = 100
"""Maximum number of lines of one attempt that become events."""
MAX_CHARACTERS = 2_000
"""Maximum length of a line's message, and of its fields as JSON."""

_LOGGER = logging.getLogger("anabranch.agent")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a `task.log` event: the level in lower case, the formatted message, the fields as plain JSON."""

    level: str
    message: str
    fields: Mapping[str, Any]


class LogBook:
    """Counts the published and the dropped lines of one attempt. Thread-safe, because agents may use threads."""

    __slots__ = ("_lock", "left_out", "published")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.published = 0
        self.left_out = 0

    def admit(self) -> bool:
        """Count a line. Returns False if it is over the limit and has to be dropped."""
        with self._lock:
            if self.published < MAX_LINES:
                self.published += 1
                return True
            self.left_out += 1
            return False

    def leave_out(self) -> None:
        """Count an admitted line that could not be published as dropped."""
        with self._lock:
            self.left_out += 1


PublishLine = Callable[[Line | None, LogBook], None]
"""Receives a line. None is passed once, for the first line over the limit."""


class TaskLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry `run`, `group`, `task`, `member` and `attempt`, and the agent's own fields.

    Lines of INFO and above are also published as events, whatever the log level of the process is.
    """

    def __init__(self, identity: Mapping[str, Any], publish: PublishLine) -> None:
        super().__init__(_LOGGER, identity)
        self._publish = publish
        self._book = LogBook()

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line, as `logging.Logger.log`; `info`, `error` and the other methods call it."""
        if level >= logging.INFO:
            self._publish_line(level, msg, args, kwargs)
        # The record's file and line should be the agent's, so skip the frame of this method.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, msg, *args, **kwargs)

    def line(self, message: str, **fields: Any) -> None:
        """Log a line that a program has printed. Lines that the run does not show are not in the worker's log
        either."""
        if self._book.published < MAX_LINES:
            self.log(logging.INFO, "%s", _clean(message), extra=fields, stacklevel=2)
        else:
            self._publish_line(logging.INFO, message, (), {})

    def _publish_line(self, level: int, msg: object, args: tuple[object, ...], kwargs: Mapping[str, Any]) -> None:
        if self._book.admit():
            self._publish(_line_of(level, msg, args, kwargs), self._book)
        elif self._book.left_out == 1:
            self._publish(None, self._book)


def left_out(count: int) -> Line:
    """The final line of an attempt with dropped lines: how many were dropped."""
    return Line("warning", f"{count} more lines of this attempt are not shown here", {"left_out": count})


def _line_of(level: int, msg: object, args: tuple[object, ...], kwargs: Mapping[str, Any]) -> Line:
    fields: dict[str, Any] = dict(kwargs.get("extra") or {})
    if kwargs.get("exc_info"):
        fields["error"] = _error(kwargs["exc_info"])
    return Line(logging.getLevelName(level).lower(), _message(msg, args), dict(_fitting(fields)))


def _error(exc_info: object) -> str:
    """The end of the traceback, which has the error. `exc_info` is as for the loggers of the standard library."""
    shown = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    error = shown if isinstance(shown, BaseException) else sys.exception()
    return "".join(traceback.format_exception(error))[-MAX_CHARACTERS // 2 :] if error is not None else ""


def _message(msg: object, args: tuple[object, ...]) -> str:
    record = logging.LogRecord("", 0, "", 0, msg, args, None)
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001  # a format or a __str__ of the agent's own
        text = f"a line that cannot be formatted ({type(error).__name__}): {_text(msg)}"
    return _clean(text)


def _fitting(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields as JSON that fit into MAX_CHARACTERS, and the number of dropped fields, if any."""
    left, dropped = MAX_CHARACTERS, 0
    for name, value in fields.items():
        shown, key = _json(value), _clean(str(name))
        length = len(orjson.dumps(shown)) + len(key)
        if length > left:
            dropped += 1
            continue
        left -= length
        yield key, shown
    if dropped:
        yield "fields_left_out", dropped


def _json(value: Any) -> Any:
    try:
        return orjson.loads(orjson.dumps(value, default=_text, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, ValueError):  # nested too deeply, a lone surrogate, an integer of more than 64 bits
        return _text(value)


def _text(value: object) -> str:
    try:
        return _clean(str(value))
    except Exception as error:  # noqa: BLE001  # a __str__ of the agent's own
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _clean(text: str) -> str:
    """The text truncated to MAX_CHARACTERS, with characters replaced that UTF-8 cannot encode."""
    return text[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
