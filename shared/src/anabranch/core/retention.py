"""Time to live of the values of a run in the store. Pure: time is passed in."""

from __future__ import annotations


def ttl_for(deadline: float, now: float, result_ttl: float) -> float:
    """The time to live, in seconds, of a value that is written at `now` for a run: until the deadline, by which
    the run ends, and `result_ttl` beyond it.

    Args:
        deadline: of the run; `deadline` and `now` in seconds since the epoch.
        result_ttl: seconds that the values of an ended run are kept.
    """
    return max(0.0, deadline - now) + result_ttl
