"""Which failures are retried, and after how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.error_records import error_names
from anabranch.core.errors import GiveUp, ResultError
from anabranch.core.request.models import RetryPolicy
from anabranch.core.retry import LONGEST_DELAY, delay_after, delay_before, max_attempts_of, unit_from


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [
        ("immediate", [0, 0, 0, 0, 0]),
        ("fixed", [2, 2, 2, 2, 2]),
        ("exponential", [2, 4, 8, 16, 32]),
        ("fibonacci", [2, 2, 4, 6, 10]),
    ],
)
def test_delays_before_each_attempt(strategy: str, delays: list[float]) -> None:
    policy = RetryPolicy(strategy=strategy, max_attempts=6, delay=2)
    assert [delay_before(policy, attempt, 0.5) for attempt in range(2, 7)] == delays
    assert delay_before(policy, 7, 0.5) is None


def test_without_a_strategy_there_is_one_attempt() -> None:
    assert delay_before(RetryPolicy(), 2, 0.0) is None
    assert delay_after(None, 1, ["ValueError"], 0.0) is None


def test_a_strategy_has_three_attempts_where_none_are_given() -> None:
    policy = RetryPolicy(strategy="fixed", delay=1)

    assert [delay_before(policy, attempt, 0.0) for attempt in (2, 3, 4)] == [1, 1, None]
    assert [
        max_attempts_of(RetryPolicy(strategy="fixed")),
        max_attempts_of(RetryPolicy()),
        max_attempts_of(None),
    ] == [
        3,
        None,
        None,
    ]


@pytest.mark.parametrize("strategy", ["none", "fixed"])
@pytest.mark.parametrize("attempts", [None, 1, 3, 7])
def test_the_bound_survives_the_way_through_a_record(strategy: str, attempts: int | None) -> None:
    policy = RetryPolicy(strategy=strategy, max_attempts=attempts)

    assert max_attempts_of(RetryPolicy.model_validate(policy.to_document())) == max_attempts_of(policy)


def test_max_delay_caps_and_jitter_shortens() -> None:
    policy = RetryPolicy(strategy="exponential", max_attempts=9, delay=10, max_delay=15, jitter=0.5)
    assert delay_before(policy, 2, 0.0) == 10
    assert delay_before(policy, 3, 0.0) == 15
    assert delay_before(policy, 3, 0.5) == 11.25


@given(st.integers(2, 100_000), st.sampled_from(["exponential", "fibonacci"]), st.floats(0, 1, exclude_max=True))
def test_no_delay_overflows_or_is_negative(attempt: int, strategy: str, unit: float) -> None:
    policy = RetryPolicy(strategy=strategy, max_attempts=100_000, delay=30, jitter=1)
    delay = delay_before(policy, attempt, unit)
    assert delay is not None
    assert 0 <= delay <= LONGEST_DELAY


def test_types_that_are_not_retryable_match_by_class_and_base() -> None:
    policy = RetryPolicy(strategy="fixed", non_retryable=("ArithmeticError", "anabranch.core.errors.ResultError"))
    assert delay_after(policy, 1, error_names(ZeroDivisionError()), 0.0) is None
    assert delay_after(policy, 1, error_names(ResultError("no key")), 0.0) is None
    assert delay_after(policy, 1, error_names(ValueError()), 0.0) == 1.0


def test_give_up_is_never_retried() -> None:
    class Hopeless(GiveUp):
        pass

    policy = RetryPolicy(strategy="immediate", max_attempts=9)
    assert delay_after(policy, 1, error_names(Hopeless("no")), 0.0) is None


def test_retry_later_needs_no_policy_and_counts_as_an_attempt() -> None:
    assert delay_after(None, 50, ["RetryLater"], 0.0, retry_after=7.0) == 7.0
    assert delay_after(RetryPolicy(), 50, ["RetryLater"], 0.0, retry_after=7.0) == 7.0
    policy = RetryPolicy(strategy="fixed", max_attempts=3)
    assert delay_after(policy, 2, ["RetryLater"], 0.0, retry_after=7.0) == 7.0
    assert delay_after(policy, 3, ["RetryLater"], 0.0, retry_after=7.0) is None
    assert delay_after(RetryPolicy(max_attempts=2), 2, ["RetryLater"], 0.0, retry_after=7.0) is None


def test_the_unit_of_an_attempt_is_stable_and_spread() -> None:
    units = [unit_from(f"run/task/{attempt}") for attempt in range(1000)]
    assert units == [unit_from(f"run/task/{attempt}") for attempt in range(1000)]
    assert all(0 <= unit < 1 for unit in units)
    assert 0.45 < sum(units) / len(units) < 0.55
