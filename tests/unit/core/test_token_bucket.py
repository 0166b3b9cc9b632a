"""A token bucket never admits more than its burst and what its rate has added since."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.token_bucket import TokenBucket


def taken_at(bucket: TokenBucket, times: list[float]) -> list[float]:
    taken = []
    for now in times:
        if bucket.has_token(now):
            bucket.take()
            taken.append(now)
    return taken


@given(st.integers(1, 5), st.sampled_from([0.5, 1.0, 4.0]), st.lists(st.integers(0, 100), max_size=60))
def test_no_span_of_time_admits_more_than_burst_and_rate(burst: int, rate: float, times: list[int]) -> None:
    taken = taken_at(TokenBucket(burst, rate), sorted(float(each) for each in times))

    for first, start in enumerate(taken):
        for count, end in enumerate(taken[first:], 1):
            assert count <= burst + (end - start) * rate


def test_a_bucket_starts_full_and_fills_again_up_to_its_burst() -> None:
    bucket = TokenBucket(2, 0.5)

    assert taken_at(bucket, [0, 0, 0]) == [0, 0]
    assert taken_at(bucket, [1, 2, 3]) == [2]
    assert taken_at(bucket, [1_000, 1_000, 1_000]) == [1_000, 1_000]


def test_asking_takes_no_token() -> None:
    bucket = TokenBucket(1, 1)

    assert [bucket.has_token(0) for _ in range(3)] == [True] * 3
