"""Snapshots of the Agency's runs: complete, and equal to the fold from wherever a new owner begins to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.core.names import Names
from anabranch.core.snapshots import PartitionTrail, SnapshotUnreadable
from anabranch.core.wire.codec import RUNS, encode
from anabranch.core.wire.messages import (
    ControlRun,
    Counts,
    FailRun,
    Failure,
    GroupFinished,
    GroupResults,
    Message,
    RunUnknown,
    Snapshot,
    SubmitRun,
    TimerDue,
)
from anabranch.ports import Incoming
from anabranch.runtime.ownership.effects import StorePut
from anabranch.runtime.ownership.snapshots import delivered
from anabranch_agency.owner.snapshots import run_snapshots
from anabranch_agency.run.actor import decide_delivered
from anabranch_agency.run.snapshots import CODEC, decode_run, snapshot_of
from anabranch_agency.run.state import PartitionState, Run, RunState
from anabranch_agency.run.turn import DecisionConfig, Turn

NAMES = Names("t.")
RULES = DecisionConfig(NAMES)
SNAPSHOTS = run_snapshots(NAMES)
GROUPS = ("a", "b", "c")
FAILURE = Failure(group="a", task="t", index=3, error_type="E", message="no", attempts=2, traceback="at")


def submit(run_id: str) -> SubmitRun:
    groups = [
        {"name": name, "tasks": [{"name": "t", "agent": "e", "result_keys": [f"{name}.k"]}]} for name in GROUPS
    ]
    request = {"task_groups": groups, "timeout": 50, "labels": {"team": "x"}, "name": "n"}
    return SubmitRun(run_id=run_id, request_id=f"q-{run_id}", session_id="s", body_hash="h", request=request)


class Log:
    """The records of a partition, from offset 5 on, and the state of an owner that read them all."""

    def __init__(self) -> None:
        self.state = PartitionState(0)
        self.records: list[Incoming] = []

    def add(self, message: Message, payload: Sequence[bytes] = (), at: float | None = None) -> int:
        offset = 5 + len(self.records)
        value = encode(message, payload)
        key = getattr(message, "run_id", "").encode()
        self.records.append(Incoming("t.runs", 0, offset, key, value, (), float(offset) if at is None else at))
        decide_delivered(RULES, self.state, delivered(self.records[-1], RUNS.decode(value)))
        return offset

    def snapshot(self, run_id: str) -> tuple[Snapshot, list[bytes]]:
        return snapshot_of(self.state, self.state.runs[run_id])

    def read(self, start: int, stop: int, batch: int = 3) -> tuple[PartitionState, list[Turn]]:
        """The state of a new owner that reads from `start` to before `stop`, and its turns."""
        state = PartitionState(0, is_rebuilding=True, trail=PartitionTrail(strays={}))
        turns = []
        for first in range(start, stop, batch):
            some = [each for each in self.records if first <= each.offset < min(first + batch, stop)]
            for gap in list(SNAPSHOTS.read(state, some)):
                SNAPSHOTS.fill(state, gap, self.records)
            turns += [decide_delivered(RULES, state, delivered(each, RUNS.decode(each.value))) for each in some]
        return state, turns


def some_message(random: Random, run_id: str, offset: int) -> Message:
    group = random.choice(GROUPS)
    kinds: list[Message] = [
        GroupFinished(
            run_id=run_id,
            group=group,
            status=random.choice(("completed", "failed", "cancelled")),
            results={f"{group}.k": [1, {"x": None}]},
            failures=(FAILURE,),
            failure_count=2,
            failure_pages=(("0", 2, 90),),
            counts=Counts(total=2, completed=1, failed=1),
            taken_over=1,
            warnings=("w",),
        ),
        GroupResults(run_id=run_id, group=group, part=random.randrange(3), results={"p": 1}),
        FailRun(run_id=run_id, error_type="E", message="m", group=group),
        ControlRun(
            run_id=run_id,
            action=random.choice(("pause", "resume", "cancel")),
            origin=f"t.requests/0/{random.choice((offset, 2))}",
        ),
        TimerDue(run_id=run_id, at=float(random.choice((10, 90)))),
        RunUnknown(run_id=run_id),
        submit(run_id),
    ]
    return random.choice(kinds)


def states_of(partition: PartitionState) -> dict[str, RunState]:
    return {run_id: RunState(run, partition.observed.get(run_id, {})) for run_id, run in partition.runs.items()}


@given(st.integers(0, 2**32), st.integers(1, 6), st.data())
@settings(max_examples=60, deadline=None)
def test_a_new_owner_that_reads_from_the_lowest_pin_knows_the_same(
    seed: int, batch: int, data: st.DataObject
) -> None:
    random, log = Random(seed), Log()
    pins: list[tuple[int | None, dict[str, int], dict[str, RunState]]] = []
    late: list[tuple[Snapshot, list[bytes]]] = []
    for _ in range(60):
        run_id = random.choice("rstuvw")
        message = some_message(random, run_id, len(log.records))
        if late and random.random() < 0.3:
            log.add(*late.pop(random.randrange(len(late))))
        elif run_id in log.state.tombstones:  # that it ended, a new owner reads from the store
            log.add(RunUnknown(run_id=run_id))
        else:  # as what came before it was submitted
            log.add(message if run_id in log.state.runs else submit(run_id))
        for each in log.state.runs:
            snapshot = log.snapshot(each)
            known = states_of(log.state)[each]
            assert decode_run(*snapshot) == known
            late += [snapshot] if random.random() < 0.2 else []
        found = {run_id: run.trail.pin for run_id, run in log.state.runs.items()}
        pins.append((log.state.oldest_open(), found, {k: decode_run(*log.snapshot(k)) for k in found}))

    cut = data.draw(st.integers(1, len(pins)))
    pin, found, expected = pins[cut - 1]
    end = 5 + cut
    start = data.draw(st.integers(5, end if pin is None else pin))
    state, _ = log.read(start, end, batch)
    state.rebuilt(end if pin is None else pin)

    assert states_of(state) == expected
    assert {run_id: run.trail.pin for run_id, run in state.runs.items()} == found
    assert (pin, state.next_deadline()) == (
        state.oldest_open(),
        min((each.run.due for each in expected.values()), default=None),
    )


def test_a_restored_run_is_stored_again() -> None:
    """The store may have lost its record, and the log has no other than the snapshot."""
    log = Log()
    log.add(submit("r"))
    at = log.add(*log.snapshot("r"))

    state, [turn] = log.read(at, at + 1)

    [put] = [effect for effect in turn.effects if isinstance(effect, StorePut)]
    assert put.key == NAMES.tombstone("r")
    assert put.value == state.runs["r"].tombstone.encode()


def test_a_control_record_before_the_snapshot_is_not_for_a_later_run() -> None:
    log = Log()
    log.add(submit("r"))
    first = log.add(ControlRun(run_id="r", action="pause", origin="t.requests/0/7"))
    log.add(ControlRun(run_id="r", action="cancel", origin="t.requests/0/8"))
    log.add(*log.snapshot("r"))

    state, _ = log.read(first, first + 3)

    assert states_of(state) == states_of(log.state)
    assert (state.early_stops, state.early_pauses) == ({}, {})


@pytest.mark.parametrize("change", ["version", "field", "damage"])
def test_a_snapshot_of_a_later_release_stops_the_owner_that_needs_it(change: str) -> None:
    log = Log()
    log.add(submit("r"))
    message, payload = log.snapshot("r")
    if change == "version":
        message = message.model_copy(update={"version": 2})
    elif change == "field":
        payload = [b'{"mood":"good",' + payload[0][1:]]
    else:
        payload = [payload[0][:-1]]
    at = log.add(message, payload)

    with pytest.raises(SnapshotUnreadable, match=r"run r\b"):
        log.read(at, at + 1)
    assert list(log.read(5, at + 1)[0].runs) == ["r"]


def test_every_field_of_the_state_is_encoded() -> None:
    missing: set[Any] = {
        (kind, each.name)
        for kind, encoded in CODEC.covered.items()
        for each in fields(kind)
        if each.init and each.name not in encoded
    }

    assert missing == {(Run, "trail")}
