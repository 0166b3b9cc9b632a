"""What a worker tells of the failed attempts of one task: to the owner of the session, and in its own log.

Every failure is told with its type and message. Its traceback goes along at a bounded rate, and a line is logged
at another: where a million members fail, neither the log of the owner nor that of the worker fills with them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, TracebackType
from typing import Final, NamedTuple

from anabranch.core.error_records import ErrorRecord
from anabranch.core.wire.messages import Offer
from anabranch.runtime.process.logs import ATTEMPTS_LOGGER

SENT_AT_ONCE: Final = 100
SENT_ALIKE: Final = 10
SENT_EVERY: Final = 1.0
"""Tracebacks of one task that a worker sends: so many at once, so many of them from one line of code, and then one
in so many seconds from each line and in all."""
LOGGED_AT_ONCE: Final = 10
LOGGED_EVERY: Final = 5.0
"""Failed attempts of one task in the worker's log: so many at once, then one in so many seconds."""
MAX_LINES: Final = 100
"""Lines of code of which one task's failures are told apart; further ones count as one."""

_traceback_of: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__

Line = tuple[CodeType, int] | None


class AttemptFailure(NamedTuple):
    """One failed attempt as messages hold it."""

    type: str
    message: str
    traceback: str | None


@dataclass(slots=True)
class Bucket:
    """Lets `size` through at once, then one in `seconds`. `now` is monotonic."""

    size: int
    seconds: float
    level: float = field(init=False)
    _filled_at: float = -math.inf

    def __post_init__(self) -> None:
        self.level = self.size

    def has_room(self, now: float) -> bool:
        if self.level < self.size:
            self.level = min(self.size, self.level + (now - self._filled_at) / self.seconds)
        self._filled_at = now
        return self.level >= 1

    def take(self) -> None:
        self.level -= 1


class AttemptErrors:
    """The failed attempts of one task in one worker."""

    def __init__(self, redact: Callable[[str], str], worker: str = "") -> None:
        self._redact = redact
        self._worker = worker
        self._sent = Bucket(SENT_AT_ONCE, SENT_EVERY)
        self._alike: dict[Line, Bucket] = {}
        self._logged = Bucket(LOGGED_AT_ONCE, LOGGED_EVERY)
        self._left_out = 0

    def told(self, record: ErrorRecord, now: float) -> AttemptFailure:
        """A failed attempt without secrets; with its traceback where the rate allows."""
        traceback = record.traceback if self._admits(line_of(record.error), now) else None
        redact = self._redact
        return AttemptFailure(
            record.type, redact(record.message), None if traceback is None else redact(traceback)
        )

    def _admits(self, line: Line, now: float) -> bool:
        known = self._alike.get(line)
        if known is None:
            known = self._alike.setdefault(
                line if len(self._alike) < MAX_LINES else None, Bucket(SENT_ALIKE, SENT_EVERY)
            )
        if not (known.has_room(now) and self._sent.has_room(now)):
            return False
        known.take()
        self._sent.take()
        return True

    def log(
        self, offer: Offer, index: int, attempt: int, told: AttemptFailure, delay: float | None, now: float
    ) -> None:
        """Write a failed attempt to the worker's log, or count it; `delay` is that of the next attempt."""
        if not self._logged.has_room(now):
            self._left_out += 1
            return
        self._logged.take()
        place = f"[{index}]" if offer.expanded else ""
        then = "it is not tried again" if delay is None else f"the next attempt is in {delay:g} s"
        before = f"; {self._left_out} failed attempts of this task before it are not logged" * bool(self._left_out)
        extra = {"attempt": attempt, "worker": self._worker}
        ATTEMPTS_LOGGER.log(
            logging.WARNING if delay is None else logging.INFO,
            "taskgroup worker: attempt %d of member %s/%s%s of run %s failed, %s: %s: %s%s",
            attempt,
            offer.group,
            offer.task,
            place,
            offer.run_id,
            then,
            told.type,
            told.message,
            before,
            extra=extra if told.traceback is None else extra | {"error": told.traceback.rstrip()},
        )
        self._left_out = 0


def line_of(error: BaseException) -> Line:
    """The line of code that raised an error; None where it was never raised."""
    last = _traceback_of(error)
    if last is None:
        return None
    while last.tb_next is not None:
        last = last.tb_next
    return last.tb_frame.f_code, last.tb_lineno
