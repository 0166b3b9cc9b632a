"""The work of a request stays within its budget: a change that adds work is detected on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest
from source_tree import ROOT
from work_counts import PATH, SHAPES, Counts, counts_of, table

from anabranch_taskgroup.worker import outbox

BUDGETS: Mapping[str, tuple[float, ...]] = {
    "records on `runs`": (2, 2, 2, 4, 5),
    "records on `groups`": (3, 105, 160, 13, 45),
    "records on `tasks`": (0, 95, 138, 0, 8),
    "records on `events`": (4, 7, 9, 6, 11),
    "records on `results`": (3, 3, 3, 11, 6),
    "bytes on `runs`": (687, 13_691, 937, 2_293, 2_273),
    "bytes on `groups`": (898, 46_784, 191_501, 5_255, 14_539),
    "bytes on `tasks`": (0, 60_319, 88_068, 0, 5_513),
    "bytes on `events`": (1_599, 32_399, 49_654, 4_457, 16_111),
    "bytes on `results`": (2_000, 27_790, 2_278, 6_763, 4_069),
    "publish calls": (8, 17, 24, 14, 29),
    "store calls": (8, 11, 16, 10, 15),
    "store commands": (18, 215, 475, 52, 77),
    "bytes to the store": (4_540, 73_082, 228_480, 13_713, 14_816),
    "channel messages": (1, 1, 1, 9, 4),
    "round trips in a row": (9, 14, 19, 13, 23),
}
"""One column for each of `SHAPES`: what was counted when the budget was made."""

ROOM = 0.1
"""A count may be above its budget by this share. Round trips in a row may not: each is paid by every request."""
FLOOR = 0.5
"""Below this share of its budget a count is as wrong: nothing was counted, or the budget hides what comes next."""
GROWTH = 0.05
"""A member of a larger fan-out may cost so much more than one of a smaller."""


@cache
def counted(shape: str) -> Counts:
    """What a shape costs, counted once for all tests."""
    return counts_of(SHAPES[shape])


def over(shape: str, counts: Counts, quantity: str) -> str | None:
    """What is wrong with a count, and what to do; None where it is within its budget."""
    budget = BUDGETS[quantity][list(SHAPES).index(shape)] if quantity in BUDGETS else 0
    found = counts.get(quantity, 0)
    most, least = budget if quantity == PATH else budget * (1 + ROOM), budget * FLOOR
    what = f"{shape}: {quantity}: {found:,.9g} counted, {least:,.9g} to {most:,.9g} allowed"
    if found > most:
        return f"{what}. Mend what made it dearer, or raise the budget and say why in the commit."
    if found < least:
        return f"{what}. Mend the counter, or lower the budget if this has become cheaper."
    return None


def all_over(shape: str, counts: Counts) -> list[str]:
    """Every count of a shape that is not within its budget, also of what has none."""
    found = (over(shape, counts, quantity) for quantity in dict.fromkeys((*BUDGETS, *counts)))
    return [each for each in found if each is not None]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_request_costs_no_more_than_its_budget(shape: str) -> None:
    found = all_over(shape, counted(shape))

    assert not found, "\n".join(found)


@pytest.mark.parametrize("quantity", BUDGETS)
def test_a_member_costs_no_more_in_a_larger_fan_out(quantity: str) -> None:
    """Most quantities even fall: chunks grow with the fan-out, and a large result is published as a reference."""
    small = counted("1,000 members")[quantity] / 1_000
    large = counted("10,000 members")[quantity] / 10_000

    assert large <= small * (1 + GROWTH), (
        f"{quantity}: {small:,.5g} for each of 1,000 members, {large:,.5g} for each of 10,000. "
        "Mend what grows faster than the fan-out: no budget allows for that."
    )


def test_nothing_is_counted_unless_requested() -> None:
    assert counts_of(None) == {}


def test_a_request_costs_the_same_each_time() -> None:
    assert counts_of(SHAPES["three by three"]) == counted("three by three")


def test_reports_that_are_published_one_by_one_are_over_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutation: without batches there are more calls, and more round trips."""
    monkeypatch.setattr(outbox, "REPORT_BATCH", 1)
    found = all_over("1,000 members", counts_of(SHAPES["1,000 members"]))

    assert {"publish calls", PATH} <= {line.split(": ")[1] for line in found}


def test_a_count_that_is_over_says_what_to_do() -> None:
    counts = {**counted("one task"), PATH: 10, "store calls": 0, "bytes on `new`": 1}

    assert all_over("one task", counts) == [
        "one task: store calls: 0 counted, 4 to 8.8 allowed. "
        "Mend the counter, or lower the budget if this has become cheaper.",
        "one task: round trips in a row: 10 counted, 4.5 to 9 allowed. "
        "Mend what made it dearer, or raise the budget and say why in the commit.",
        "one task: bytes on `new`: 1 counted, 0 to 0 allowed. "
        "Mend what made it dearer, or raise the budget and say why in the commit.",
    ]


def test_the_docs_have_the_table_of_budgets() -> None:
    assert table(BUDGETS) in (ROOT / "docs" / "benchmarks" / "README.md").read_text(encoding="utf-8")
