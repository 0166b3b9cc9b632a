"""A compressed document reads like any other."""

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
def test_a_document_store_behaves_like_a_dict(steps: list[tuple[str, str, int | None]]) -> None:
    store, model = DocumentStore({"a": {"n": 0}}), {"a": {"n": 0}}
    for what, key, value in steps:
        if what == "set":
            store[key] = model[key] = {"n": value}
        elif what == "away":
            for each in key:
                store.compress(each)
        else:
            assert store.pop(key, None) == model.pop(key, None)
        assert dict(store) == model
        assert len(store) == len(model)
        assert all(key in store for key in model)
        assert "z" not in store


def test_a_compressed_document_is_kept_as_json_only() -> None:
    store = DocumentStore({"a": {"text": "x" * 100}})
    store.compress("a")
    store.compress("unknown")

    assert store._kept == {"a": b'{"text":"' + b"x" * 100 + b'"}'}
