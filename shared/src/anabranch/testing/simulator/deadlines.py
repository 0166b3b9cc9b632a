"""Checks when a run ended: it must not time out before its timeout or deadline, and must end soon after it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from math import inf
from typing import Any

from anabranch.testing.simulator.accounts import Account

STOP_SECONDS = 60.0
"""Maximum seconds from a run's deadline to its end, in a system without faults."""
MARGIN_SECONDS = 45.0
"""Additional seconds for faults between the deadline and the end, and for a second stop request."""
EARLY_SECONDS = 5.0
"""Tolerance for a timeout that is measured from a different clock."""


def wrong_times(
    account: Account,
    final: dict[str, Any],
    *,
    epoch: float,
    faults_stop_at: float,
    cancelled_at: float | None,
    may_be_late: bool,
) -> Iterator[str]:
    """Yield what is wrong with the time at which an admission ended. Virtual time began at `epoch`, and no fault
    happens after `faults_stop_at`."""
    request = account.expected.request if account.expected is not None else {}
    timeout, deadline = request.get("timeout"), request.get("deadline")
    if timeout is None and deadline is None:
        return
    accepted = _seconds(final["accepted_at"], epoch)
    ended = account.ended[final["accepted_at"]]
    start = accepted if "not_before" not in request else max(accepted, _seconds(request["not_before"], epoch))
    stopped = inf if timeout is None else start + timeout
    if deadline is not None:
        stopped = min(stopped, max(accepted, _seconds(deadline, epoch)))
    if final["status"] == "timed_out" and ended < stopped - EARLY_SECONDS:
        yield f"it timed out at {ended:.1f} s, but should not have been stopped before {stopped:.1f} s"
    if cancelled_at is not None:
        stopped = max(accepted, min(stopped, cancelled_at))
    if ended > max(stopped + STOP_SECONDS, faults_stop_at) + MARGIN_SECONDS and not may_be_late:
        yield f"it ended at {ended:.1f} s, but should have been stopped at {stopped:.1f} s"


def _seconds(text: str, epoch: float) -> float:
    """A time in seconds of virtual time."""
    return datetime.fromisoformat(text).timestamp() - epoch
