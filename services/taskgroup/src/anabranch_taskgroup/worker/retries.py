"""Decides whether a failed attempt of a chunk's member is retried: by one policy, or by a list of retriers."""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.core.error_records import ErrorRecord
from anabranch.core.errors import ExpansionError
from anabranch.core.request.models import RetryPolicy
from anabranch.core.retry import Retrial, counted, delay_after, retrial_after, unit_from
from anabranch.core.wire.messages import Offer


class Retries:
    """The retries of one chunk's members on this worker.

    Args:
        offer: says how many attempts of each member count against each of `retriers` already.
        policy: the task's only policy, if it has one.
        retriers: in place of it, several policies; empty: none.
    """

    __slots__ = ("_made", "_offer", "_policy", "_retriers")

    def __init__(self, offer: Offer, policy: RetryPolicy | None, retriers: Sequence[RetryPolicy]) -> None:
        self._offer = offer
        self._policy = policy
        self._retriers = retriers
        self._made: dict[int, tuple[int, ...]] | None = None
        """By member: attempts against each retrier, those on this worker included. Made at the first failure."""

    def decide(self, index: int, attempt: int, record: ErrorRecord) -> Retrial:
        """What follows a failed attempt, which counts against its retrier from now on."""
        offer = self._offer
        # Random, but a function of the attempt's name: should this worker die, the owner and the next worker come
        # to the same delay.
        random = unit_from(f"{offer.run_id}/{offer.group}/{offer.task}/{index}/{attempt}")
        # The items of the member are wrong, and would be in each further attempt.
        is_hopeless = type(record.error) is ExpansionError
        if is_hopeless or not self._retriers:
            policy = None if is_hopeless else self._policy
            delay = delay_after(policy, attempt, record.names, random, retry_after=record.retry_after)
            return Retrial(delay, None)
        if self._made is None:
            self._made = dict(offer.retrier_attempts)
        made = self._made.get(index, ())
        retrial = retrial_after(self._retriers, made, record.names, random, retry_after=record.retry_after)
        self._made[index] = counted(made, retrial.retrier, len(self._retriers))
        return retrial
