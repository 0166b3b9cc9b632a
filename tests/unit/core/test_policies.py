"""The policies of keys with several writers: their properties for every order and all values."""

from __future__ import annotations

from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.core.errors import ContextConflict
from anabranch.core.policies import SINGLY, Contribution, Fold, Policy, RunsValue, canonical, reduce, total

POLICIES: tuple[Policy, ...] = get_args(Policy)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans().map(int)
)
SMALL_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(("", "a", "b"))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(("x", "y")), inner, max_size=2)
    ),
    max_leaves=5,
)


def value_of(policy: Policy, values: list[Any]) -> Any:
    return reduce(policy, "k", [Contribution(f"g/{nth}", value) for nth, value in enumerate(values)])


# --- one run -----------------------------------------------------------------------------------------


@given(st.lists(SMALL_JSON, min_size=1, max_size=6))
def test_append_is_every_item_in_order_and_set_union_each_once(values: list[Any]) -> None:
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]

    assert value_of("append", values) == items
    once = value_of("set_union", values)
    assert sorted(map(canonical, once)) == sorted({canonical(item) for item in items})
    assert [canonical(item) for item in once] == list(dict.fromkeys(map(canonical, items)))


@given(st.data(), st.lists(NUMBERS, min_size=1, max_size=8))
def test_sum_and_max_are_the_same_in_any_order(data: st.DataObject, numbers: list[float]) -> None:
    shuffled = data.draw(st.permutations(numbers))

    for policy in ("sum", "max"):
        found, again = value_of(policy, numbers), value_of(policy, shuffled)
        assert (type(found), found) == (type(again), again)
        assert orjson.loads(orjson.dumps(found)) == found


def test_sum_is_exact_and_stays_within_what_json_can_say() -> None:
    assert total([0.1] * 10) == 1.0
    assert total([1e308, 1e308, -1e308, -1e308, 0.5]) == 0.5
    assert total([2**62, 2**62]) == float(2**63)
    assert total([1e308, 1e308]) == 1.7976931348623157e308
    assert total([-1e308, -1e308]) == -1.7976931348623157e308
    assert (total([1, 2]), type(total([1, 2])), type(total([1, 2.0]))) == (3, int, float)


@pytest.mark.parametrize("policy", ["sum", "max"])
@pytest.mark.parametrize(
    ("value", "kind"), [("1", "text"), (None, "null"), (True, "true or false"), ([1], "a list"), ({}, "an object")]
)
def test_what_is_no_number_is_refused_with_its_writer(policy: Policy, value: Any, kind: str) -> None:
    with pytest.raises(ContextConflict) as refused:
        value_of(policy, [1, value])

    assert str(refused.value) == f"'k', written by g/1: {policy} takes numbers, not {kind}"


@given(st.lists(SMALL_JSON, min_size=1, max_size=4))
def test_error_agrees_or_names_the_first_that_differs(values: list[Any]) -> None:
    texts = [canonical(value) for value in values]
    odd = next((nth for nth, text in enumerate(texts) if text != texts[0]), None)

    if odd is None:
        assert value_of("error", values) == values[0]
    else:
        with pytest.raises(ContextConflict) as refused:
            value_of("error", values)
        assert refused.value.writers == ("g/0", f"g/{odd}")


# --- the runs of a session ---------------------------------------------------------------------------


def run_value(policy: Policy) -> st.SearchStrategy[Any]:
    """A value that one run may contribute to a key."""
    if policy in ("sum", "max"):
        return NUMBERS
    return st.lists(SMALL_JSON, max_size=3) if policy in ("append", "set_union") else SMALL_JSON


def folded(policy: Policy, runs: list[RunsValue]) -> Fold:
    """Folded through its stored form after each step, as in production."""
    fold = Fold(policy)
    for run in runs:
        fold.add(run)
        fold = Fold.of_document(orjson.loads(orjson.dumps(fold.to_document())))
    return fold


@given(st.data(), st.sampled_from(POLICIES))
def test_runs_leave_the_same_value_in_whatever_order_they_end(data: st.DataObject, policy: Policy) -> None:
    """Also if some are repeated, as after a crash."""
    submitted = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
    values = [data.draw(run_value(policy)) for _ in submitted]
    names = [f"r{nth}" for nth in range(len(values))]
    stamped = sorted(zip(submitted, names, values, strict=True))

    def ending(order: list[tuple[int, str, Any]]) -> list[RunsValue]:
        runs = [RunsValue(nth, at, name, value) for nth, (at, name, value) in enumerate(order)]
        return [each for nth in range(len(runs)) for each in runs[max(0, nth - 2) : nth + 1]]

    one = folded(policy, ending(data.draw(st.permutations(stamped)))).value()
    other = folded(policy, ending(data.draw(st.permutations(stamped)))).value()

    assert canonical(one) == canonical(other)
    if policy != "error":
        assert canonical(one) == canonical(value_of(policy, [value for _, _, value in stamped]))
    else:
        assert canonical(one) == canonical(stamped[0][2])


@given(st.sampled_from(POLICIES), st.integers(2, 30))
def test_a_retry_replaces_the_run_before_it(policy: Policy, number: int) -> None:
    value = [number] if policy in ("append", "set_union") else number
    first = RunsValue(0, 1.0, "first", value)
    again = RunsValue(1, 5.0, "again", value, replaces="first")

    assert folded(policy, [first, again]).value() == value
    assert folded(policy, [first, again, first]).value() == value


@pytest.mark.parametrize("policy", POLICIES)
def test_of_very_many_runs_the_older_ones_are_one_value(policy: Policy) -> None:
    fold = Fold(policy)
    runs = [
        RunsValue(nth, float(nth), f"r{nth}", [nth] if policy in ("append", "set_union") else nth)
        for nth in range(SINGLY + 50)
    ]
    for run in runs:
        fold.add(run)
    for run in runs[:10]:  # told again, long after
        fold.add(run)

    last = len(runs) - 1
    whole = list(range(len(runs)))
    expected = {"sum": sum(whole), "max": last, "last_write": last, "first_write": 0, "error": 0}
    assert (len(fold.runs), fold.value()) == (SINGLY, expected.get(policy, whole))
