"""How a new owner treats runs that are open in its rebuild although they had ended before the commit, or whose
first records it did not read.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from lone_owners import REQUEST, finals

from anabranch.core.names import Names
from anabranch.core.wire.codec import encode
from anabranch.core.wire.fragments import fragments_of
from anabranch.core.wire.messages import OpenRun, RunUnknown, SubmitRun, ValueFound
from anabranch.ports import Committed, Incoming
from anabranch.runtime.ownership.owned_partition import CommitPoint, OwnedPartition
from anabranch.runtime.ownership.poison_records import PoisonRecordGuard
from anabranch.runtime.ownership.replay import open_from, position, replay_of
from anabranch_agency.owner.handler import RunsHandler
from anabranch_agency.run.actor import decide as decide_run
from anabranch_agency.run.state import PartitionState as Runs
from anabranch_agency.run.turn import DecisionConfig as RunRules
from anabranch_taskgroup.session.actor import DeliveredMessage
from anabranch_taskgroup.session.actor import decide as decide_group
from anabranch_taskgroup.session.partition import PartitionState as Groups
from anabranch_taskgroup.session.rebuilding import drop_ended
from anabranch_taskgroup.session.turn import DecisionConfig as GroupRules

NAMES = Names("t.")
SUBMIT = SubmitRun(run_id="r", request_id="q", session_id="s", body_hash="h", request=REQUEST)


# --- what a commit tells ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("committed", "expected"),
    [
        (position(10, 4, "s", open_from=9), 9),
        (position(10, 4, "s", 2, open_from=9), 9),
        (position(10, 4, "s", open_from=4), 4),
        (position(10, 4, "s"), 4),
        (Committed(10, "not ours"), 0),
        (Committed(10, "[]"), 0),
        (None, 0),
    ],
)
def test_a_commit_lists_the_runs_that_had_ended(committed: Committed | None, expected: int) -> None:
    assert open_from(committed) == expected


def test_an_earlier_release_understands_such_a_commit() -> None:
    assert replay_of(position(10, 4, "s", open_from=9), "s") == replay_of(position(10, 4, "s"), "s")


class Handler:
    """A handler that records the calls of its owner."""

    def __init__(self) -> None:
        self.rebuilt_from: list[int] = []

    def on_rebuilt(self, state: None, open_from: int) -> None:
        self.rebuilt_from.append(open_from)


def owned(committed: Committed | None) -> OwnedPartition[None]:
    return OwnedPartition.claimed_now(
        0,
        None,
        replay_of(committed, "store"),
        20,
        0,
        "store",
        PoisonRecordGuard(None, "key"),  # type: ignore[arg-type]  # it is not asked
        committed,
        is_marked=True,
        loss_window=5.0,
        rebuild_window=10.0,
        now=0.0,
    )


def test_a_successor_learns_once_which_runs_had_ended_although_it_starts_at_a_fragment() -> None:
    """The other fragments of a message may never arrive, while the first one keeps the replay's start position."""
    before, handler = owned(None), Handler()
    [fragment, *_] = fragments_of(encode(ValueFound(run_id="r", key="k", value="x" * 3_000)), 1_200)
    before.assembled([Incoming("t", 0, 7, b"s", fragment, (), 0.0)])
    before.commit_points.append(CommitPoint(15, before.fragments.begin(12), 12))
    before.trailing.mark(15, 0.0)

    committed = before.committable(100.0)
    successor = owned(committed)
    successor.end_rebuild(handler)  # type: ignore[arg-type]  # it calls on_rebuilt only
    successor.end_rebuild(handler)  # type: ignore[arg-type]

    assert (replay_of(committed, "store").start, handler.rebuilt_from) == (0, [12])
    again = before.committable(200.0)
    assert (replay_of(again, "store").start, open_from(again)) == (7, 12)


# --- the session's owner ---------------------------------------------------------------------------


def opened(run_id: str, offset: int, partition: Groups) -> None:
    opening = OpenRun(run_id=run_id, request_id="q", session_id="s", groups=("g",), deadline=1e9, admission=3)
    decide_group(GroupRules(NAMES), partition, DeliveredMessage(opening, (), offset, 1.0))


def test_a_run_that_had_ended_and_was_opened_by_a_repetition_is_not_run_again() -> None:
    partition = Groups(0)
    opened("ended", 8, partition)
    opened("open", 9, partition)

    drop_ended(partition, 9)
    opened("ended", 12, partition)

    assert list(partition.runs) == ["open"]
    assert partition.oldest_open() == 9
    assert partition.next_due() == partition.runs["open"].timers.next_due()


# --- the run's owner -------------------------------------------------------------------------------


def runs_in_rebuild() -> tuple[Runs, Callable[[Any, int], Any]]:
    partition = Runs(0, is_rebuilding=True)
    return partition, lambda message, offset: decide_run(
        RunRules(NAMES), partition, message, offset, float(offset)
    )


def test_a_run_that_had_ended_and_was_admitted_by_a_repetition_is_not_open() -> None:
    partition, receive = runs_in_rebuild()
    receive(SUBMIT, 8)
    receive(SUBMIT.model_copy(update={"run_id": "open"}), 9)

    partition.rebuilt(9)

    assert list(partition.runs) == ["open"]
    assert partition.oldest_open() == 9
    assert partition.next_deadline() == partition.runs["open"].due


def test_a_lost_run_ends_after_the_rebuild_once_its_end_is_published() -> None:
    """Retention removed its admission, but not a repetition of its request: decisions of a rebuild have no
    effects, so the run must not count as ended afterwards.
    """
    known, admit = runs_in_rebuild()
    admit(SUBMIT, 1)
    partition, receive = runs_in_rebuild()
    partition.remember("r", known.runs["r"].tombstone)

    in_rebuild = receive(SUBMIT, 3)
    partition.rebuilt(1)
    after = receive(RunUnknown(run_id="r"), 9)

    assert finals(in_rebuild.effects) == []
    assert finals(after.effects) == ["run.failed"]


def test_a_new_owner_begins_with_a_rebuild() -> None:
    resources: Any = SimpleNamespace(log=None, store=None, telemetry=None)
    handler = RunsHandler(resources, RunRules(NAMES))
    state = handler.new_state(0, 0)

    assert state.is_rebuilding
    handler.on_rebuilt(state, 0)
    assert not state.is_rebuilding
