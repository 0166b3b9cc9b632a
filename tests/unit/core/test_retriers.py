"""A list of retry policies: which one is for an error, and that each has a budget of its own."""

from __future__ import annotations

from anabranch.core.error_records import error_record
from anabranch.core.errors import ExpansionError, GiveUp, RetryLater
from anabranch.core.request.models import RetryPolicy
from anabranch.core.retry import Retrial, counted, delay_after, retrial_after
from anabranch.core.wire.messages import Offer
from anabranch_taskgroup.worker.retries import Retries

LOOKUP = RetryPolicy(strategy="fixed", delay=1, max_attempts=2, errors=("LookupError",))
NEVER = RetryPolicy(errors=("ValueError",))
ANY = RetryPolicy(strategy="fixed", delay=7, max_attempts=3, errors=("*",))


def after(error: Exception, *policies: RetryPolicy, attempts: tuple[int, ...] = ()) -> Retrial:
    record = error_record(error)
    return retrial_after(policies, attempts, record.names, 0.0, retry_after=record.retry_after)


def test_the_first_policy_that_names_the_error_or_a_base_of_it_decides() -> None:
    assert after(KeyError("x"), LOOKUP, NEVER, ANY) == (1.0, 0)
    assert after(ValueError("x"), LOOKUP, NEVER, ANY) == (None, 1)
    assert after(OSError("x"), LOOKUP, NEVER, ANY) == (7.0, 2)
    assert after(KeyError("x"), ANY, LOOKUP) == (7.0, 0)


def test_an_error_that_no_policy_names_is_not_retried() -> None:
    assert after(OSError("x"), LOOKUP) == (None, None)


def test_an_attempt_counts_only_against_the_policy_that_was_for_its_error() -> None:
    assert after(KeyError("x"), LOOKUP, ANY, attempts=(0, 2)) == (1.0, 0)
    assert after(KeyError("x"), LOOKUP, ANY, attempts=(1, 0)) == (None, 0)
    assert counted((), 1, 2) == (0, 1)
    assert counted((1, 1), None, 2) == (1, 1)


def test_the_delay_grows_with_the_attempts_of_its_policy() -> None:
    doubling = RetryPolicy(strategy="exponential", delay=2, max_attempts=9, errors=("OSError",))

    assert [after(OSError("x"), LOOKUP, doubling, attempts=(5, made)).delay for made in range(3)] == [2, 4, 8]


def test_give_up_is_final_and_retry_later_uses_the_budget_of_its_policy() -> None:
    assert after(GiveUp("x"), ANY).delay is None
    assert after(RetryLater(after=3), LOOKUP, ANY, attempts=(0, 1)) == (3.0, 1)
    assert after(RetryLater(after=3), LOOKUP, ANY, attempts=(0, 2)) == (None, 1)


def test_the_errors_of_a_single_policy_count_as_well() -> None:
    assert delay_after(LOOKUP, 1, error_record(KeyError()).names, 0.0) == 1.0
    assert delay_after(LOOKUP, 1, error_record(OSError()).names, 0.0) is None


def test_a_worker_goes_on_from_the_attempts_that_the_offer_has() -> None:
    offer = Offer(
        run_id="r",
        session_id="s",
        group="g",
        task="t",
        agent="a",
        chunk=0,
        fence=0,
        spans=((0, 2),),
        attempts={0: 1},
        retrier_attempts={0: (1, 0)},
        deadline=9e9,
        claim_ttl=60,
    )
    retries = Retries(offer, None, (LOOKUP, ANY))

    assert retries.decide(0, 2, error_record(KeyError())) == (None, 0)
    assert retries.decide(1, 1, error_record(KeyError())) == (1.0, 0)
    assert retries.decide(1, 2, error_record(OSError())) == (7.0, 1)
    assert retries.decide(1, 3, error_record(KeyError())) == (None, 0)
    assert retries.decide(1, 4, error_record(ExpansionError("x"))) == (None, None)
