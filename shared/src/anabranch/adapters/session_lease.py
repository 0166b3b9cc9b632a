"""The time for which a consumer group cannot have given a member's partitions to another member. Pure."""

from __future__ import annotations

import math

MARGIN_SECONDS = 1.0
"""Left out at the end of a session: clocks of two machines may run at different rates, and a process may stop
between a look at the lease and what it does then."""


class SessionLease:
    """Confirmed by each commit that the group's coordinator accepts.

    A coordinator accepts commits of its members only, and begins a member's session again with each. So it expels
    a member no sooner than one session timeout after the last accepted commit was *sent*, unless the member
    leaves, or an administrator removes it.

    Args:
        seconds: the session timeout of the member.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds - MARGIN_SECONDS
        self._until = -math.inf

    def confirm(self, sent_at: float) -> None:
        """Note that a commit was accepted which was sent at `sent_at`, by the monotonic clock."""
        self._until = max(self._until, sent_at + self._seconds)

    def end(self) -> None:
        """Note that the member was expelled, or leaves."""
        self._until = -math.inf

    def holds(self, now: float) -> bool:
        """True if no other member can have the partitions at `now`, by the monotonic clock."""
        return now < self._until
