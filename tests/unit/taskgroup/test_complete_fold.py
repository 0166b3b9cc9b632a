"""The session's owner asks the store about a run only if its fold may lack what happened to it."""

from __future__ import annotations

from anabranch_taskgroup.session.partition import MAX_TOMBSTONES, SKEW_SECONDS, PartitionState


def partition(began: float) -> PartitionState:
    state = PartitionState(0)
    state.begin(began)
    return state


def test_a_run_that_was_submitted_after_the_fold_began_is_not_asked_about() -> None:
    state = partition(1_000.0)

    assert not state.may_be_unknown("r", 1_000.0 + SKEW_SECONDS)
    assert state.may_be_unknown("r", 999.9 + SKEW_SECONDS)  # brokers' clocks may differ by as much
    assert state.may_be_unknown("r", None)  # opened by an earlier release


def test_a_known_run_is_not_asked_about() -> None:
    state = partition(1_000.0)
    state.add_tombstone("r", "ended", 1, 1_001.0)

    assert not state.may_be_unknown("r", 0.0)


def test_the_fold_begins_once() -> None:
    state = partition(1_000.0)
    state.begin(500.0)
    state.begin(2_000.0)

    assert state.complete_from == 1_000.0


def test_an_evicted_tombstone_makes_the_fold_incomplete_for_runs_of_its_time() -> None:
    """Otherwise a late repetition would open the evicted run again."""
    state = partition(1_000.0)
    state.add_tombstone("evicted", "ended", 1, 5_000.0)
    for number in range(MAX_TOMBSTONES - 1):
        state.add_tombstone(f"r{number}", "ended", 1, 6_000.0)
    assert not state.may_be_unknown("evicted", 4_990.0)

    state.add_tombstone("one more", "ended", 1, 7_000.0)

    assert state.may_be_unknown("evicted", 4_990.0)
    assert not state.may_be_unknown("new", 5_000.0 + SKEW_SECONDS)
