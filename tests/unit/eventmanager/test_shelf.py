"""What is put away is there as before, whatever is done with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anabranch_eventmanager.projection.document_store import DocumentStore

KEYS = st.sampled_from("abcd")
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, st.integers(-(2**63), 2**64 - 1)),
    st.tuples(st.just("away"), st.sets(KEYS), st.none()),
    st.tuples(st.just("pop"), KEYS, st.none()),
)


@given(st.lists(STEPS))
def test_a_shelf_is_a_dict(steps: list[tuple[str, str, int | None]]) -> None:
    shelf, model = DocumentStore({"a": {"n": 0}}), {"a": {"n": 0}}
    for what, key, value in steps:
        if what == "set":
            shelf[key] = model[key] = {"n": value}
        elif what == "away":
            shelf.compress(key)
        else:
            assert shelf.pop(key, None) == model.pop(key, None)
        assert dict(shelf) == model
        assert len(shelf) == len(model)
        assert all(key in shelf for key in model)
        assert "z" not in shelf


def test_what_is_put_away_takes_no_more_than_its_json() -> None:
    shelf = DocumentStore({"a": {"text": "x" * 100}})
    shelf.compress(["a", "unknown"])

    assert (shelf._open, shelf._compressed) == ({}, {"a": b'{"text":"' + b"x" * 100 + b'"}'})
