"""How long the store keeps what belongs to a run. Pure: time is passed in."""

from __future__ import annotations


def seconds_kept(deadline: float, now: float, result_ttl: float) -> float:
    """The time to live, in seconds, of what is written at `now` for a run: until its deadline, and the result time
    to live after it, because a run ends at its deadline at the latest.

    Args:
        deadline: of the run; `deadline` and `now` in seconds since the epoch.
        result_ttl: seconds that the values of an ended run are kept.
    """
    return max(0.0, deadline - now) + result_ttl
