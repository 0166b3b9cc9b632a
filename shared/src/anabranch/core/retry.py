"""When a failed attempt is followed by another, and how long that one waits.

Must not read a clock or a random source: the random part of a delay comes in, as a hash of the attempt's id,
so that an owner and its successor come to the same time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from anabranch.core.request.models import RetryPolicy

USUAL_ATTEMPTS: Final = 3
"""Of a policy that names a strategy and no `max_attempts`."""
LONGEST_DELAY: Final = 365 * 86_400.0
"""No delay is longer than this, whatever a policy's numbers grow to; the run's timeout ends it long before."""


def delay_before(policy: RetryPolicy, attempt: int, unit_random: float) -> float | None:
    """Return the seconds to wait before `attempt` (2 is the first retry), or None if there is to be none.

    Before attempt k+1: immediate 0; fixed d; exponential d·2^(k-1); fibonacci d·fib(k), so d, d, 2d, 3d. Then
    `max_delay` caps it, and `jitter` j shortens it by the fraction ``j * unit_random``, `unit_random` in
    [0, 1): with jitter 1 the delay is anything from nothing up to all of it.
    """
    bound = most_attempts(policy)
    if policy.strategy == "none" or (bound is not None and attempt > bound):
        return None
    delay = min(policy.delay * _factor(policy.strategy, attempt - 1), LONGEST_DELAY)
    if policy.max_delay is not None:
        delay = min(delay, policy.max_delay)
    return delay * (1.0 - policy.jitter * unit_random)


def _factor(strategy: str, failed: int) -> float:
    """Return how many times its `delay` a strategy waits after `failed` attempts (1 or more)."""
    if strategy == "immediate":
        return 0.0
    if strategy == "exponential":
        # Beyond any delay that matters, and within what a float can hold.
        return 2.0 ** min(failed - 1, 512)
    return _fibonacci(min(failed, 512)) if strategy == "fibonacci" else 1.0


def _fibonacci(nth: int) -> float:
    before, this = 0, 1
    for _ in range(nth - 1):
        before, this = this, before + this
    return float(this)


def delay_after(
    policy: RetryPolicy | None,
    attempt: int,
    error_types: Collection[str],
    unit_random: float,
    *,
    retry_after: float | None = None,
) -> float | None:
    """Return the seconds from the failure of `attempt` to the next one, or None: the member has failed.

    `error_types` are the names of the error's class and its bases (`error_records.error_names`). ``GiveUp``
    is never retried. `retry_after` is what a ``RetryLater`` asked for: it takes the place of the policy's
    delay, needs no strategy, and counts as an attempt, so `most_attempts` bounds it. Any other error follows
    the policy, but for the types of `non_retryable`.
    """
    if "GiveUp" in error_types:
        return None
    if retry_after is not None:
        bound = most_attempts(policy)
        return max(retry_after, 0.0) if bound is None or attempt < bound else None
    if policy is None or not set(policy.non_retryable).isdisjoint(error_types):
        return None
    return delay_before(policy, attempt + 1, unit_random)


def most_attempts(policy: RetryPolicy | None) -> int | None:
    """Return the bound on all attempts, retries on request included; None: only the timeouts bound them.

    That is `max_attempts`; where the policy leaves it open, 3 under a strategy, and no bound under ``none``.
    """
    if policy is None:
        return None
    if policy.max_attempts is None and policy.strategy != "none":
        return USUAL_ATTEMPTS
    return policy.max_attempts


def unit_from(text: str) -> float:
    """Return a number in [0, 1) that is always the same for `text` and spread evenly over texts."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    # The upper 53 bits: what a float holds exactly, so never rounded up to 1.
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
