"""Checks when a run ended: it must not time out before its timeout, and must end soon after it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from anabranch.testing.loop import EPOCH
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
    faults_stop_at: float,
    cancelled_at: float | None,
    may_be_late: bool,
) -> Iterator[str]:
    """Yield what is wrong with the time at which an admission ended. No fault happens after `faults_stop_at`."""
    timeout = account.expected.request.get("timeout") if account.expected is not None else None
    if timeout is None:
        return
    accepted = datetime.fromisoformat(final["accepted_at"]).timestamp() - EPOCH
    ended = account.ended[final["accepted_at"]]
    if final["status"] == "timed_out" and ended < accepted + timeout - EARLY_SECONDS:
        yield f"it timed out {ended - accepted:.1f} s after its admission, but its timeout is {timeout:g} s"
    stopped = accepted + timeout
    if cancelled_at is not None:
        stopped = max(accepted, min(stopped, cancelled_at))
    if ended > max(stopped + STOP_SECONDS, faults_stop_at) + MARGIN_SECONDS and not may_be_late:
        yield f"it ended at {ended:.1f} s, but should have been stopped at {stopped:.1f} s"
