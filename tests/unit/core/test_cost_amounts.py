"""Amounts are exact: dollars in billionths, whatever number they are written as."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from anabranch.core.costs import Costs, costs_of, document_of, nanos_of, tokens_of, total_of


@pytest.mark.parametrize(
    ("usd", "nanos"),
    [
        (0, 0),
        (1, 1_000_000_000),
        (0.1, 100_000_000),
        (0.1 + 0.2, 300_000_000),
        (1e-9, 1),
        (7.5e-8, 75),
        (Decimal("0.0000000005"), 0),
        (Decimal("0.0000000015"), 2),
        ("12.34", 12_340_000_000),
        (9_000_000_000, 9_000_000_000_000_000_000),
    ],
)
def test_dollars_are_kept_in_billionths(usd: Any, nanos: int) -> None:
    assert nanos_of(usd) == nanos


@pytest.mark.parametrize("usd", [-0.01, float("nan"), float("inf"), "-1", "much", 1e30, Decimal("sNaN")])
def test_an_amount_that_is_none_is_refused(usd: Any) -> None:
    with pytest.raises(ValueError, match="amount in dollars"):
        nanos_of(usd)


@pytest.mark.parametrize("usd", [None, True, [1]])
def test_what_is_no_number_is_refused(usd: Any) -> None:
    with pytest.raises(TypeError, match="amount in dollars"):
        nanos_of(usd)


def test_tokens_are_whole_numbers() -> None:
    assert tokens_of(12) == 12
    with pytest.raises(ValueError, match="from 0"):
        tokens_of(-1)
    for wrong in (True, 1.5, "3"):
        with pytest.raises(TypeError, match="integer"):
            tokens_of(wrong)  # type: ignore[arg-type]


def test_a_sum_of_tenths_is_exact() -> None:
    total = total_of([Costs(nanos_of(0.1), 1, 250_000, 1)] * 10)

    assert document_of(total) == {"usd": 1.0, "tokens": 10, "seconds": 2.5, "executions": 10}
    assert costs_of(document_of(total)) == total
