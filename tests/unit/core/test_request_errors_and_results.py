"""The error tree, and the form of results that users receive."""

from __future__ import annotations

import inspect
import pickle

import pytest

from anabranch.core import errors
from anabranch.core.wire import results
from anabranch.core.wire.messages import Counts, Failure

EXAMPLES = [
    errors.RequestRefused([errors.Problem(errors.Code.SCHEMA, "/a", "is wrong", "mend it")], ["careful"]),
    errors.ExpansionError("the array is missing"),
    errors.ResultError("the result has no 'x'", ["x"]),
    errors.AttemptTimeout(30),
    errors.GiveUp("no use"),
    errors.RetryLater("30s", "busy"),
    errors.ServerUnavailable("Kafka", "localhost:9092", "connection refused", "Start it."),
    errors.StoreRefused("SET", "out of memory"),
    errors.Misconfigured("ANABRANCH_PREFIX", "is empty", "Leave it out."),
    errors.Fenced("session s", 3, 4),
    errors.RunFailed("r", [{"group": "g", "task": "t", "error_type": "E", "message": "m"}], {"x": 1}),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_message_and_fields(error: errors.AnabranchError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error) != ""
    assert vars(copy) == vars(error)


def test_every_error_is_drawn_in_the_tree_and_at_most_two_deep() -> None:
    classes = [
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, errors.AnabranchError) and value is not errors.AnabranchError
    ]

    assert len(classes) > 10
    for error in classes:
        assert f"+-- {error.__name__}" in (errors.__doc__ or "")
        assert len(error.__mro__) - len(errors.AnabranchError.__mro__) <= 2


def test_retry_later_takes_seconds_or_text() -> None:
    assert errors.RetryLater(after=1.5).after == 1.5
    assert errors.RetryLater(after="2m").after == 120
    with pytest.raises(ValueError, match="not a duration"):
        errors.RetryLater(after="soon")


def test_a_failed_run_says_what_failed_first() -> None:
    failures = [{"group": "g", "task": "t", "error_type": "ValueError", "message": "no"}] * 3

    assert str(errors.RunFailed("r-1", failures)) == "run r-1 failed: g/t: ValueError: no (and 2 more)"


def test_a_reference_is_distinguished_from_values_that_look_like_one() -> None:
    reference = results.Reference.to("s", "a/b", count=3, size=70_000, run_id="r")
    document = reference.to_document()

    assert document == {"$anabranch": "s/a/b", "count": 3, "bytes": 70_000, "run_id": "r"}
    assert results.is_reference(document, "s")
    assert document == results.reference_document("s", "a/b", "r", 3, 70_000)
    assert results.Reference.model_validate(document) == reference
    assert (reference.session_id, reference.key) == ("s", "a/b")
    for other in ({"$anabranch": "s/k"}, document | {"mine": 1}, document | {"$anabranch": 5}, "s/k", None):
        assert not results.is_reference(other, "s")
    for field in ("count", "bytes", "run_id"):
        assert not results.is_reference(document | {field: None}, "s")
        assert not results.is_reference(document | {field: True}, "s")
    for session in ("", "S", "s2"):
        assert not results.is_reference(document, session)


def test_a_final_record_has_results_failures_counts_and_times() -> None:
    final = results.RunFinal(
        request_id="q",
        run_id="r",
        session_id="s",
        status="timed_out",
        results={"x": 1},
        failures=(Failure(group="g", task="t", index=3, error_type="E", message="m", attempts=2),),
        failure_count=1,
        executions=Counts(total=2, completed=1, failed=1),
        accepted_at="2030-01-01T00:00:00.000Z",
        ended_at="2030-01-01T00:00:02.000Z",
        duration_seconds=2.0,
    )

    document = final.to_document()

    assert final.ce_type == "run.timed_out"
    assert final.ce_type in results.RESULT_KINDS
    assert document.items() >= {"status": "timed_out", "results": {"x": 1}, "run_id": "r"}.items()
    assert document["executions"] == {"total": 2, "completed": 1, "failed": 1, "skipped": 0}
    assert document["failures"][0]["index"] == 3
    assert results.RunFinal.model_validate(document) == final


def test_a_rejection_carries_every_error() -> None:
    problem = errors.Problem("cycle", "/a", "a -> b -> a", "take one out")
    rejected = results.RunRejected(request_id="q", run_id=None, session_id=None, errors=(problem,))

    assert rejected.to_document() == {
        "request_id": "q",
        "run_id": None,
        "session_id": None,
        "status": "rejected",
        "errors": [problem.to_document()],
        "warnings": [],
    }
