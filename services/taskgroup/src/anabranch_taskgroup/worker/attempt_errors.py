"""Limits what reports and the worker's log contain about the failed attempts of one task in one worker.

Every failure is reported with its type and message. Its traceback is reported at a limited rate, and a line is
logged at another, so that a million failing members fill neither the owner's log nor the worker's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Final, NamedTuple

from anabranch.core.error_records import ErrorRecord
from anabranch.core.token_bucket import TokenBucket
from anabranch.core.wire.messages import Offer
from anabranch.runtime.process.logs import ATTEMPTS_LOGGER

TRACEBACK_BURST: Final = 100
"""Tracebacks of one task that are reported without a limit of rate."""
TRACEBACK_BURST_OF_LINE: Final = 10
"""The same for the failures that one line of code raises."""
TRACEBACK_SECONDS: Final = 1.0
"""After its burst, one traceback in this time: of the task, and of each line."""
LOG_BURST: Final = 10
LOG_SECONDS: Final = 5.0
"""Failed attempts of one task in the worker's log: a burst, then one in this time."""
MAX_LINES: Final = 100
"""Lines of code with a limit of their own, for one task. All further lines share one limit."""

# Reads the attribute past the error's class: an agent's exception may override it with a property that raises.
_traceback_of: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__

Line = tuple[CodeType, int] | None


class AttemptFailure(NamedTuple):
    """One failed attempt as messages hold it: without secrets, with a traceback if the rate allowed one."""

    type: str
    message: str
    traceback: str | None


class AttemptErrors:
    """Limits the tracebacks and log lines of one task in one worker.

    Args:
        redact: masks secrets in a text.
        worker: the worker's name, for the log.
    """

    def __init__(self, redact: Callable[[str], str], worker: str = "") -> None:
        self._redact = redact
        self._worker = worker
        self._tracebacks = TokenBucket(TRACEBACK_BURST, 1 / TRACEBACK_SECONDS)
        self._of_lines: dict[Line, TokenBucket] = {}
        self._logged = TokenBucket(LOG_BURST, 1 / LOG_SECONDS)
        self._unlogged = 0

    def failure_of(self, record: ErrorRecord, now: float) -> AttemptFailure:
        """The failed attempt as messages hold it."""
        traceback = record.traceback if self._admits(line_of(record.error), now) else None
        redact = self._redact
        return AttemptFailure(
            record.type, redact(record.message), None if traceback is None else redact(traceback)
        )

    def _admits(self, line: Line, now: float) -> bool:
        known = self._of_lines.get(line)
        if known is None:
            known = self._of_lines.setdefault(
                line if len(self._of_lines) < MAX_LINES else None,
                TokenBucket(TRACEBACK_BURST_OF_LINE, 1 / TRACEBACK_SECONDS),
            )
        # Both are checked before either is charged: a traceback that one limit refuses costs nothing in the
        # other.
        if not (known.has_token(now) and self._tracebacks.has_token(now)):
            return False
        known.take()
        self._tracebacks.take()
        return True

    def log(
        self, offer: Offer, index: int, attempt: int, failure: AttemptFailure, delay: float | None, now: float
    ) -> None:
        """Write a failed attempt to the worker's log, or only count it. `delay` is that of the next attempt."""
        if not self._logged.has_token(now):
            self._unlogged += 1
            return
        self._logged.take()
        place = f"[{index}]" if offer.expanded else ""
        then = "it is not tried again" if delay is None else f"the next attempt is in {delay:g} s"
        before = f"; {self._unlogged} failed attempts of this task before it are not logged" * bool(self._unlogged)
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
            failure.type,
            failure.message,
            before,
            extra=extra if failure.traceback is None else extra | {"error": failure.traceback.rstrip()},
        )
        self._unlogged = 0


def line_of(error: BaseException) -> Line:
    """The line of code that raised an error; None if it was never raised."""
    last = _traceback_of(error)
    if last is None:
        return None
    while last.tb_next is not None:
        last = last.tb_next
    return last.tb_frame.f_code, last.tb_lineno
