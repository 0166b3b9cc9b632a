"""Decides whether a failed attempt is retried, and after which delay. Pure.

The random part of a delay is passed in: it is a hash of the attempt's id, so that an owner and its successor
compute the same time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from anabranch.core.request.models import RetryPolicy

USUAL_ATTEMPTS: Final = 3
"""The `max_attempts` of a policy that names a strategy only."""
LONGEST_DELAY: Final = 365 * 86_400.0
"""Maximum delay, to which exponential growth is clamped; the run's timeout ends the wait long before."""


def delay_before(policy: RetryPolicy, attempt: int, unit_random: float) -> float | None:
    """Return the seconds to wait before `attempt` (2 is the first retry), or None if there is to be none.

    Before attempt k+1: immediate 0; fixed d; exponential d·2^(k-1); fibonacci d·fib(k), so d, d, 2d, 3d. Then
    `max_delay` clamps the delay, and `jitter` j shortens it by the fraction ``j * unit_random``, with
    `unit_random` in [0, 1): with jitter 1 it is anything from 0 up to the whole delay.
    """
    bound = max_attempts_of(policy)
    if policy.strategy == "none" or (bound is not None and attempt > bound):
        return None
    delay = min(policy.delay * _factor(policy.strategy, attempt - 1), LONGEST_DELAY)
    if policy.max_delay is not None:
        delay = min(delay, policy.max_delay)
    return delay * (1.0 - policy.jitter * unit_random)


def _factor(strategy: str, failed: int) -> float:
    """Return the multiple of its `delay` that a strategy waits after `failed` attempts (1 or more)."""
    if strategy == "immediate":
        return 0.0
    if strategy == "exponential":
        # Clamped: 2.0 ** 1024 would overflow, and every delay this large is cut to the maximum anyway.
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
    is never retried. `retry_after` is the delay that a ``RetryLater`` asked for: it replaces the delay of the
    policy, needs no strategy, and counts as an attempt, so `max_attempts_of` limits it. Any other error is retried
    by the policy, except the types of `non_retryable`.
    """
    if "GiveUp" in error_types:
        return None
    if policy is not None and not is_for(policy, error_types):
        policy = None
    if retry_after is not None:
        bound = max_attempts_of(policy)
        return max(retry_after, 0.0) if bound is None or attempt < bound else None
    if policy is None or not set(policy.non_retryable).isdisjoint(error_types):
        return None
    return delay_before(policy, attempt + 1, unit_random)


def is_for(policy: RetryPolicy, error_types: Collection[str]) -> bool:
    """True if the `errors` of a policy name one of an error's types, or all errors."""
    return "*" in policy.errors or not set(policy.errors).isdisjoint(error_types)


class Retrial(NamedTuple):
    """What follows a failed attempt.

    Attributes:
        delay: seconds to the next attempt; None: the member has failed.
        retrier: number of the policy that the attempt counts against; None if none is for its error.
    """

    delay: float | None
    retrier: int | None


def retrial_after(
    policies: Sequence[RetryPolicy],
    attempts: Sequence[int],
    error_types: Collection[str],
    unit_random: float,
    *,
    retry_after: float | None = None,
) -> Retrial:
    """Decide by a list of policies: the first one that is for the error decides, as `delay_after` does.

    Each policy has a budget of its own: its `max_attempts` counts only failed attempts that it was the first for.

    Args:
        attempts: how many earlier attempts count against each policy; empty: none.
    """
    number = next((number for number, each in enumerate(policies) if is_for(each, error_types)), None)
    policy = None if number is None else policies[number]
    made = 1 + (attempts[number] if attempts and number is not None else 0)
    return Retrial(delay_after(policy, made, error_types, unit_random, retry_after=retry_after), number)


def counted(attempts: Sequence[int], retrier: int | None, retriers: int) -> tuple[int, ...]:
    """The attempts of each of `retriers` policies, after one more that counts against `retrier`."""
    before = attempts or (0,) * retriers
    return tuple([count + (number == retrier) for number, count in enumerate(before)])


def max_attempts_of(policy: RetryPolicy | None) -> int | None:
    """Return the maximum number of attempts, including retries by `RetryLater`; None: only timeouts limit them.

    This is `max_attempts`; without it 3 if the policy names a strategy, and no limit under ``none``.
    """
    if policy is None:
        return None
    if policy.max_attempts is None and policy.strategy != "none":
        return USUAL_ATTEMPTS
    return policy.max_attempts


def unit_from(text: str) -> float:
    """Hash a text to a number in [0, 1), evenly distributed."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    # A float holds 53 bits exactly; with more bits, the largest hashes would be rounded up to 1.
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
