"""When a run has to end: not before its timeout as one that took too long, and soon after it in any case."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from anabranch.testing.loop import EPOCH
from anabranch.testing.simulator.accounts import Account

STOP_SECONDS = 60.0
"""The product ends a run at the latest so long after its deadline."""
MARGIN_SECONDS = 45.0
"""For what goes wrong between the deadline and the end, and for asking twice."""
EARLY_SECONDS = 5.0


def wrong_times(
    account: Account, final: dict[str, Any], *, calm_at: float, cancelled_at: float | None, may_be_late: bool
) -> Iterator[str]:
    """What is wrong with the time at which an admission ended. `calm_at`: from when on nothing goes wrong."""
    timeout = account.expected.request.get("timeout") if account.expected is not None else None
    if timeout is None:
        return
    accepted = datetime.fromisoformat(final["accepted_at"]).timestamp() - EPOCH
    ended = account.ended[final["accepted_at"]]
    if final["status"] == "timed_out" and ended < accepted + timeout - EARLY_SECONDS:
        yield f"it timed out {ended - accepted:.1f} s after its admission, and may take {timeout:g} s"
    stopped = accepted + timeout
    if cancelled_at is not None:
        stopped = max(accepted, min(stopped, cancelled_at))
    if ended > max(stopped + STOP_SECONDS, calm_at) + MARGIN_SECONDS and not may_be_late:
        yield f"it ended at {ended:.1f} s, and was to be stopped at {stopped:.1f} s"
