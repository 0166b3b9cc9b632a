"""Snapshots of the runs of a session: complete, and equal to the fold from wherever a new owner begins to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taskgroup_model import NAMES, PlannedRun, World, plain
from taskgroup_runs import live_through, runs

from anabranch.core.snapshots import PartitionTrail, SnapshotPolicy, SnapshotUnreadable
from anabranch.core.wire.codec import GROUPS, encode
from anabranch.core.wire.messages import Message, OpenRun, PauseRun, Snapshot, StopRun
from anabranch.ports import Incoming
from anabranch_taskgroup.owner.snapshots import session_snapshots
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.rebuilding import drop_ended
from anabranch_taskgroup.session.snapshots import CODEC, decode_run, snapshot_of
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import LoopState
from anabranch_taskgroup.session.turn import DecisionConfig

SNAPSHOTS = session_snapshots(NAMES)
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class SnapshottedWorld(World):
    """A world whose owners append snapshots, some of them late, and some of them twice."""

    def feed(self, message: Message, segments: Sequence[bytes] = ()) -> None:
        super().feed(message, segments)
        self.partition.trail.position = len(self.log) - 1  # the second decision has no record
        for run in list(self.partition.runs.values()):
            if self.random.random() < 0.3:
                snapshot, payload = snapshot_of(self.partition, run)
                assert decode_run(snapshot, payload) == run
                self.late.append((snapshot, payload))
        while self.late and self.random.random() < 0.3:
            number = self.random.randrange(len(self.late))
            self.feed_once(*self.late[number])
            if self.random.random() < 0.8:
                del self.late[number]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.late: list[tuple[Snapshot, list[bytes]]] = []


def rebuilt(world: World, start: int, stop: int, batch: int) -> PartitionState:
    """The state of a new owner that reads the records from `start` to before `stop`, as the shell does it."""
    state = PartitionState(0, trail=PartitionTrail(strays={}))
    records = [incoming(each) for each in world.log]
    for first in range(start, stop, batch):
        some = records[first : min(first + batch, stop)]
        for gap in list(SNAPSHOTS.read(state, some)):
            SNAPSHOTS.fill(state, gap, records[gap.start : gap.end])
        for record in some:
            found = GROUPS.decode(record.value)
            decide(
                world.rules,
                state,
                DeliveredMessage(found.message, found.segments, record.offset, record.timestamp),
            )
    return state


def incoming(each: DeliveredMessage) -> Incoming:
    return Incoming("t", 0, each.offset, b"s", encode(each.message, each.segments), (), each.at)


@given(runs("r1"), runs("r2"), st.integers(0, 2**32), st.integers(1, 9), st.data())
@SLOW
def test_a_new_owner_that_reads_from_the_lowest_pin_knows_the_same(
    one: PlannedRun, other: PlannedRun, seed: int, batch: int, data: st.DataObject
) -> None:
    world = SnapshottedWorld([one, other], Random(seed), chaos=10, inline_limit=40)
    live_through(world)
    cut = data.draw(st.integers(0, len(world.log)))
    owner = PartitionState(0)
    for delivery in world.log[:cut]:
        decide(world.rules, owner, delivery)
    pin = owner.oldest_open()

    start = data.draw(st.integers(0, cut if pin is None else pin))
    successor = rebuilt(world, start, cut, batch)
    drop_ended(successor, cut if pin is None else pin)

    assert successor.runs == owner.runs
    assert successor.oldest_open() == pin
    assert {run_id: run.trail.pin for run_id, run in successor.runs.items()} == {
        run_id: run.trail.pin for run_id, run in owner.runs.items()
    }
    for delivery in world.log[cut:]:
        decide(world.rules, successor, delivery)
    assert plain(successor.runs) == {}


@given(runs(), st.integers(0, 2**32))
@SLOW
def test_every_snapshot_moves_the_pin_behind_its_state(run: PlannedRun, seed: int) -> None:
    world = SnapshottedWorld([run], Random(seed), chaos=0, inline_limit=65_536)
    pins: list[int] = []

    for message in run.messages():
        world.feed(message)
    for _ in range(40):
        world.step()
        pins += [each.trail.pin for each in world.partition.runs.values()]

    assert pins == sorted(pins)
    counted = [each.message for each in world.log if isinstance(each.message, Snapshot)]
    if world.partition.runs and counted:
        assert pins[-1] == max(each.upto for each in counted) + 1


# --- one run ---------------------------------------------------------------------------------------


class Log:
    """The records of one partition, from offset 10 on."""

    def __init__(self) -> None:
        self.state = PartitionState(0, generation=2)
        self.records: list[Incoming] = []

    def add(self, message: Message, payload: Sequence[bytes] = ()) -> int:
        offset = 10 + len(self.records)
        self.records.append(Incoming("t", 0, offset, b"s", encode(message, payload), (), float(offset)))
        decide(DecisionConfig(NAMES), self.state, delivered(self.records[-1]))
        return offset

    def open(self, run_id: str, admission: int = 3, **more: Any) -> int:
        opening = OpenRun(
            run_id=run_id,
            request_id="q",
            session_id="s",
            groups=("g",),
            deadline=1e9,
            admission=admission,
            **more,
        )
        return self.add(opening)

    def snapshot(self, run_id: str, **changes: Any) -> int:
        message, payload = snapshot_of(self.state, self.state.runs[run_id])
        return self.add(message.model_copy(update=changes), payload)

    def read_from(self, start: int, generation: int = 2) -> PartitionState:
        state = PartitionState(0, generation, trail=PartitionTrail(strays={}))
        some = [record for record in self.records if record.offset >= start]
        for gap in list(SNAPSHOTS.read(state, some)):
            SNAPSHOTS.fill(state, gap, [each for each in self.records if each.offset >= gap.start])
        for record in some:
            decide(DecisionConfig(NAMES), state, delivered(record))
        return state


def delivered(record: Incoming) -> DeliveredMessage:
    found = GROUPS.decode(record.value)
    return DeliveredMessage(found.message, found.segments, record.offset, record.timestamp, len(record.value))


def stop(run_id: str) -> StopRun:
    return StopRun(run_id=run_id, reason="cancelled", admission=3)


def test_a_run_is_restored_where_its_opening_is_gone() -> None:
    log = Log()
    log.open("r", context={"k": [1]})
    at = log.snapshot("r")

    state = log.read_from(at)

    assert state.runs == log.state.runs
    assert state.next_due() == log.state.next_due()
    assert state.oldest_open() == log.state.oldest_open() == at


def test_what_lies_between_the_state_and_the_snapshot_is_applied() -> None:
    log = Log()
    log.open("r")
    snapshot = snapshot_of(log.state, log.state.runs["r"])
    first = log.add(stop("r"))
    log.add(*snapshot)

    assert log.read_from(first).runs["r"].stopped == "cancelled"
    assert log.state.oldest_open() == first


def test_a_snapshot_does_not_restore_a_run_of_which_records_are_missing() -> None:
    log = Log()
    log.open("r")
    snapshot = snapshot_of(log.state, log.state.runs["r"])
    log.add(stop("r"))
    at = log.add(*snapshot)

    assert log.read_from(at).runs == {}


def test_a_run_that_ended_before_its_snapshot_stays_ended() -> None:
    """A zombie, which has not read the end, appends a snapshot after it."""
    log = Log()
    first = log.open("other")
    log.open("r")
    snapshot = snapshot_of(log.state, log.state.runs["r"])
    log.add(stop("r"))
    log.add(stop("r"))
    log.add(*snapshot)

    assert list(log.state.runs) == ["other"]
    assert list(log.read_from(first + 2).runs) == []
    assert list(log.read_from(first).runs) == ["other"]


def test_a_repetition_of_the_opening_gives_way_to_the_snapshot() -> None:
    log = Log()
    log.open("r")
    log.add(stop("r"))
    pin = log.snapshot("r")
    again = log.open("r")
    at = log.snapshot("r")

    assert log.read_from(pin).runs == log.state.runs
    assert log.read_from(again).runs == log.state.runs
    assert log.read_from(again).runs["r"].stopped == "cancelled"
    assert log.state.oldest_open() == at


def test_an_early_stop_in_the_rebuild_is_the_runs_own() -> None:
    log = Log()
    log.open("r")
    first = log.add(stop("r"))
    log.snapshot("r")

    state = log.read_from(first)

    assert state.runs == log.state.runs
    assert state.tombstone("r") is None


@pytest.mark.parametrize("changes", [{"generation": 1}, {"upto": 99}, {"opened_at": 4}])
def test_a_snapshot_of_another_log_or_run_moves_nothing(changes: dict[str, Any]) -> None:
    log = Log()
    first = log.open("r")
    log.snapshot("r", **changes)

    assert log.state.oldest_open() == first


def test_a_snapshot_of_an_earlier_life_of_the_topic_restores_nothing() -> None:
    log = Log()
    log.open("r")
    at = log.snapshot("r")

    assert log.read_from(at, generation=3).runs == {}


def test_no_snapshot_restores_a_run_after_the_rebuild() -> None:
    log = Log()
    log.open("r")
    at = log.snapshot("r")
    state = PartitionState(0, 2, trail=PartitionTrail(strays={}))
    drop_ended(state, 0)
    SNAPSHOTS.end(state)

    assert list(SNAPSHOTS.read(state, log.records[at - 10 :])) == []
    decide(DecisionConfig(NAMES), state, delivered(log.records[at - 10]))
    assert state.runs == {}


@pytest.mark.parametrize("change", ["version", "field", "damage"])
def test_a_snapshot_of_a_later_release_stops_the_owner_that_needs_it(change: str) -> None:
    log = Log()
    log.open("r")
    message, payload = snapshot_of(log.state, log.state.runs["r"])
    if change == "version":
        message = message.model_copy(update={"version": 2})
    elif change == "field":
        payload = [b'{"mood":"good",' + payload[0][1:], *payload[1:]]
    else:
        payload = [payload[0][:-1], *payload[1:]]
    at = log.add(message, payload)

    with pytest.raises(SnapshotUnreadable, match=r"run r\b"):
        log.read_from(at)
    assert list(log.read_from(10).runs) == ["r"]


def test_a_snapshot_of_a_later_version_does_not_move_the_pin() -> None:
    """The owner could not read it at the next takeover."""
    log = Log()
    first = log.open("r")
    log.snapshot("r", version=2)

    assert log.state.oldest_open() == first


# --- completeness ----------------------------------------------------------------------------------


def test_every_field_of_the_state_is_encoded() -> None:
    apart = {(Run, "waiters"), (LoopState, "waiters"), (Run, "producers"), (Run, "trail")}
    missing = {
        (kind, each.name)
        for kind, encoded in CODEC.covered.items()
        for each in fields(kind)
        if each.init and each.name not in encoded
    }

    assert missing == apart


@given(runs(), st.integers(0, 2**32))
@SLOW
def test_a_field_that_differs_makes_another_snapshot(run: PlannedRun, seed: int) -> None:
    """Each field of a run is in the snapshot: a changed value comes back changed."""
    world = SnapshottedWorld([run], Random(seed), chaos=5, inline_limit=40)
    for message in run.messages():
        world.feed(message)
    for _ in range(Random(seed).randrange(30)):
        world.step()
    for known in world.partition.runs.values():
        changed = replace(known, paused=not known.paused, warnings=("w",), deadline=5.0)
        assert decode_run(*snapshot_of(world.partition, changed)) == changed != known


# --- when ------------------------------------------------------------------------------------------

POLICY = SnapshotPolicy(idle=600.0, interval=21_600.0, bytes=1_000, retention=86_400.0)


@pytest.mark.parametrize(
    ("touched_at", "since", "size", "behind", "is_due"),
    [
        (9_400.0, 0.0, 1, 0, True),
        (9_401.0, 0.0, 1, 0, False),
        (9_000.0, 9_000.0, 0, 0, False),
        (10_000.0, -11_600.0, 1, 0, True),
        (10_000.0, -11_600.0, 0, 0, False),
        (10_000.0, 9_999.0, 1_000, 0, True),
        (-90_000.0, -33_200.0, 0, 0, True),
        (9_000.0, 9_000.0, 0, 100, True),
    ],
)
def test_when_a_run_gets_a_snapshot(touched_at: float, since: float, size: int, behind: int, is_due: bool) -> None:
    log = Log()
    log.open("r")
    trail = replace(log.state.runs["r"].trail, touched_at=touched_at, since=since, bytes=size)

    assert POLICY.is_due(trail, 10_000.0, behind, 100) is is_due


def test_work_between_a_snapshot_and_its_record_counts_towards_the_next_one() -> None:
    """A run that works all the time has records there, and is due again only after its share of further work."""
    log = Log()
    log.open("r")
    trail = log.state.runs["r"].trail
    record = SNAPSHOTS.record_of(log.state, 0, "r")
    made, before = trail.cut, trail.bytes
    log.add(PauseRun(run_id="r", paused=True, cause=1))
    trail.iterations += 7
    decoded = GROUPS.decode(record.value)
    log.add(decoded.message, decoded.segments)

    assert made is not None
    assert (made.upto, made.bytes) == (10, before)
    assert trail.cut is None
    assert (trail.bytes, trail.iterations) == (len(log.records[1].value), 7)
