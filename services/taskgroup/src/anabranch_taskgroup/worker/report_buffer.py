"""Collects the outcomes of one chunk's members until the worker takes them for the next report."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVarTuple

from anabranch.core.costs import MAX_AMOUNT
from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import MemberFailed, MemberLog, MemberRetry, Offer, Spans
from anabranch.ports import Clock
from anabranch.sdk.task_log import Line, LogBook, left_out
from anabranch_taskgroup.worker.attempt_errors import AttemptFailure
from anabranch_taskgroup.worker.reports import PendingReport

Ts = TypeVarTuple("Ts")

MAX_NOTE_CHARACTERS = 2_000
MAX_LINES = 2_000
"""Maximum lines of agents' logs in one report. Further lines are counted as left out."""


class ReportBuffer:
    """The pending report of one chunk. A `Listener` of its members' tasks.

    Created on the event loop. Agents in threads may call `post` and `log`; all else is for the loop only.

    Args:
        report_due: set when there is something to report.
    """

    def __init__(self, offer: Offer, clock: Clock, report_due: asyncio.Event) -> None:
        self.pending = PendingReport()
        """Replaced by each `take`, so it must not be kept across an `await`."""
        self._offer = offer
        self._clock = clock
        self._report_due = report_due
        self.is_quiet = False
        """True while a report is certain to be made without `report_due`."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.seconds = 0.0
        """Seconds that attempts took which have ended, together."""
        self._spent: dict[tuple[int, int], tuple[int, int]] = {}
        """By index and attempt: billionths of a dollar and tokens that it has used so far."""
        self.overfull: dict[int, LogBook] = {}
        """By index: members whose attempt logged more lines than the run shows."""
        self._reported: list[Spans] = []

    # --- what was reported -------------------------------------------------------------------------

    def take(self) -> PendingReport:
        """Return the pending report, and begin a new one."""
        taken, self.pending = self.pending, PendingReport()
        return taken

    def note_reported(self, taken: PendingReport) -> None:
        """Note the members that end here with a report: completed, failed, or returned for a later retry."""
        self._reported += taken.packed
        if not (taken.failed or taken.retried):
            return
        left = [each.index for each in taken.failed] + [e.index for e in taken.retried if e.delay is not None]
        self._reported += [((index, index + 1),) for index in left]

    @property
    def unreported(self) -> list[int]:
        """The members of the chunk whose end was not reported."""
        reported = Ranges(span for spans in self._reported for span in spans)
        return [index for span in Ranges(self._offer.spans).difference(reported) for index in range(*span)]

    # --- attempts ----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the worker report soon."""
        if not self.is_quiet:
            self._report_due.set()

    def note_start(self, index: int) -> None:
        """A member starts."""
        pending = self.pending
        # Only the first start needs a time and a wake-up: all starts of a report have its time.
        if pending.started_at is None:
            pending.started_at = self._clock.now()
            if not self.is_quiet:
                self.wake()
        pending.started.append(index)

    def note_usage(self, index: int, attempt: int, cpu: float, memory: int) -> None:
        """An attempt has ended whose outcome was just noted: what it used, in seconds and bytes."""
        self.pending.usage[index, attempt] = round(cpu * 1e6), memory

    def note_restart(self, index: int, attempt: int) -> None:
        """A further attempt of a member starts."""
        self.pending.restarted.append((index, attempt, self._clock.now()))
        self.wake()

    def note_handle(self, index: int, attempt: int, handle: str) -> None:
        """Work outside of the worker makes an attempt."""
        self.pending.handles.append((index, attempt, handle))

    def note_retry(
        self,
        index: int,
        attempt: int,
        delay: float | None,
        failure: AttemptFailure,
        retrier: int | None = None,
        *,
        holds_key: bool = False,
    ) -> None:
        """An attempt failed and another one follows: after `delay` seconds by the owner, or here without it.
        `retrier`, `holds_key`: see MemberRetry."""
        self.pending.retried.append(
            MemberRetry(
                index=index,
                attempt=attempt,
                delay=delay,
                error_type=failure.type,
                message=failure.message,
                traceback=failure.traceback,
                retrier=retrier,
                holds_key=holds_key,
            )
        )
        self.wake()

    def note_failure(self, index: int, attempts: int, failure: AttemptFailure) -> None:
        """A member failed for good."""
        self.pending.failed.append(
            MemberFailed(
                index=index,
                error_type=failure.type,
                message=failure.message,
                attempts=attempts,
                traceback=failure.traceback,
            )
        )
        self.wake()

    # --- listener of tasks -------------------------------------------------------------------------

    async def progress(self, index: int, fraction: float, note: str) -> None:
        """See `sdk.task.Listener`."""
        self._note_progress(index, fraction, note)

    def post(self, index: int, fraction: float, note: str) -> None:
        """See `sdk.task.Listener`. Called in an agent's thread."""
        self._call_on_loop(self._note_progress, index, fraction, note)

    def log(self, index: int, attempt: int, line: Line | None, book: LogBook) -> None:
        """See `sdk.task.Listener`. Called in any thread."""
        # A line of an agent on the loop must precede the outcome of its attempt; a callback would come after it.
        if threading.get_ident() == self._thread:
            self._note_line(index, attempt, line, book)
        else:
            self._call_on_loop(self._note_line, index, attempt, line, book)

    def spend(self, index: int, attempt: int, nanos: int, tokens: int) -> None:
        """See `sdk.task.Listener`. Called in any thread."""
        # As in `log`: what an agent on the loop has used must precede the outcome of its attempt.
        if threading.get_ident() == self._thread:
            self._note_spent(index, attempt, nanos, tokens)
        else:
            self._call_on_loop(self._note_spent, index, attempt, nanos, tokens)

    def note_left_out(self, index: int, attempt: int) -> None:
        """Add the line that says how many lines of an attempt were left out, if any were."""
        book = self.overfull.pop(index, None)
        if book is not None:
            self._add_line(index, attempt, left_out(book.left_out))

    def _call_on_loop(self, call: Callable[[*Ts], None], *args: *Ts) -> None:
        # The loop is closed where the process ends while an abandoned agent still runs: nothing is reported then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)

    def _note_progress(self, index: int, fraction: float, note: str) -> None:
        self.pending.progress[index] = (fraction, note[:MAX_NOTE_CHARACTERS])
        self.wake()

    def _note_spent(self, index: int, attempt: int, nanos: int, tokens: int) -> None:
        # The sum so far and not the amount: the owner may read a report twice.
        known_nanos, known_tokens = self._spent.get((index, attempt), (0, 0))
        found = min(known_nanos + nanos, MAX_AMOUNT), min(known_tokens + tokens, MAX_AMOUNT)
        self._spent[index, attempt] = self.pending.spent[index, attempt] = found
        self.wake()

    def _note_line(self, index: int, attempt: int, line: Line | None, book: LogBook) -> None:
        if line is None:
            self.overfull[index] = book
        elif len(self.pending.logs) >= MAX_LINES:
            # The report is full. The member's log ends with a line that says how many lines are missing.
            book.leave_out()
            self.overfull[index] = book
        else:
            self._add_line(index, attempt, line)

    def _add_line(self, index: int, attempt: int, line: Line) -> None:
        self.pending.logs.append(
            MemberLog(
                index=index,
                attempt=attempt,
                at=self._clock.now(),
                level=line.level,
                message=line.message,
                fields=dict(line.fields),
            )
        )
        self.wake()
