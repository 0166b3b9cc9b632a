"""An agent's log: standard log records of the worker, and lines that the run shows as `task.log` events.

What the run shows is bounded here, where lines are made: so many of an attempt, so long each. Lines over it
are counted. Nothing here raises for what an agent hands in: a line that cannot be shown says so.
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

LINES = 100
"""Lines of one attempt that the run shows."""
CHARACTERS = 2_000
"""Of one line's message, and of its fields as JSON."""

_LOGGER = logging.getLogger("anabranch.agent")


@dataclass(frozen=True, slots=True)
class Line:
    """One line as the run shows it: `level` in lower case, the message formatted, `fields` plain JSON."""

    level: str
    message: str
    fields: Mapping[str, Any]


class LogBook:
    """Counts the lines of one attempt. Any thread may write: an agent may have several."""

    __slots__ = ("_lock", "left_out", "told")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.told = 0
        self.left_out = 0

    def admit(self) -> bool:
        """Whether there is room for another line; it is counted as told, or as left out."""
        with self._lock:
            if self.told < LINES:
                self.told += 1
                return True
            self.left_out += 1
            return False

    def leave_out(self) -> None:
        """A line that was admitted could not be told after all."""
        with self._lock:
            self.left_out += 1


Tell = Callable[[Line | None, LogBook], None]
"""Takes a line; None says, once, that the book begins to leave out lines."""


class TaskLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry `run`, `group`, `task`, `member` and `attempt`, beside what the agent adds.

    Lines of INFO and above are told to the run as well, whatever level the process logs at.
    """

    def __init__(self, whose: Mapping[str, Any], tell: Tell) -> None:
        super().__init__(_LOGGER, whose)
        self._tell = tell
        self._book = LogBook()

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As of any logger; this is what `info`, `error` and the others end in."""
        if level >= logging.INFO:
            self._tell_line(level, msg, args, kwargs)
        # The place in the code that a record names is the agent's, not this one.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, msg, *args, **kwargs)

    def _tell_line(self, level: int, msg: object, args: tuple[object, ...], kwargs: Mapping[str, Any]) -> None:
        if self._book.admit():
            self._tell(_line_of(level, msg, args, kwargs), self._book)
        elif self._book.left_out == 1:
            self._tell(None, self._book)


def left_out(count: int) -> Line:
    """The last line of an attempt that logged more than the run shows."""
    return Line("warning", f"{count} more lines of this attempt are not shown here", {"left_out": count})


def _line_of(level: int, msg: object, args: tuple[object, ...], kwargs: Mapping[str, Any]) -> Line:
    fields: dict[str, Any] = dict(kwargs.get("extra") or {})
    if kwargs.get("exc_info"):
        fields["error"] = _error(kwargs["exc_info"])
    return Line(logging.getLevelName(level).lower(), _message(msg, args), dict(_fitting(fields)))


def _error(exc_info: object) -> str:
    """The end of the traceback, which says what went wrong. `exc_info` as of the standard library's loggers."""
    shown = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    error = shown if isinstance(shown, BaseException) else sys.exception()
    return "".join(traceback.format_exception(error))[-CHARACTERS // 2 :] if error is not None else ""


def _message(msg: object, args: tuple[object, ...]) -> str:
    record = logging.LogRecord("", 0, "", 0, msg, args, None)
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001  # a format or a __str__ of the agent's own
        text = f"a line that cannot be formatted ({type(error).__name__}): {_text(msg)}"
    return _clean(text)


def _fitting(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields as JSON, as many as fit; where some do not, how many."""
    room, dropped = CHARACTERS, 0
    for name, value in fields.items():
        shown, key = _json(value), _clean(str(name))
        length = len(orjson.dumps(shown)) + len(key)
        if length > room:
            dropped += 1
            continue
        room -= length
        yield key, shown
    if dropped:
        yield "fields_left_out", dropped


def _json(value: Any) -> Any:
    try:
        return orjson.loads(orjson.dumps(value, default=_text, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, ValueError):  # too deep, a lone surrogate, an integer of more than 64 bits
        return _text(value)


def _text(value: object) -> str:
    try:
        return _clean(str(value))
    except Exception as error:  # noqa: BLE001  # a __str__ of the agent's own
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _clean(text: str) -> str:
    """At most so many characters, and none that JSON has no place for."""
    return text[:CHARACTERS].encode("utf-8", "replace").decode()
