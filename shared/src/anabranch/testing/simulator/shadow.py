"""Folds `runs` and `groups` apart from the services, and compares each snapshot with that fold.

The fold begins with the first record and is never restored from a snapshot. So a snapshot of an owner that was
restored is compared with a state that was not: what a restored run lacks is found with its next snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from anabranch.core.event_addresses import is_event_address
from anabranch.core.limit_addresses import is_limit_address
from anabranch.core.names import Names
from anabranch.core.schedules.addresses import is_schedule_address
from anabranch.core.wire.codec import GROUPS, RUNS, Codec, Undecodable
from anabranch.core.wire.fragments import Assembler
from anabranch.core.wire.messages import Snapshot
from anabranch.ports import Incoming
from anabranch.runtime.ownership.snapshots import delivered
from anabranch_agency.run import actor as agency
from anabranch_agency.run import snapshots as run_snapshots
from anabranch_agency.run.state import Address, RunState
from anabranch_agency.run.state import PartitionState as Runs
from anabranch_agency.run.turn import DecisionConfig as RunConfig
from anabranch_taskgroup.session import actor as taskgroup
from anabranch_taskgroup.session import snapshots as session_snapshots
from anabranch_taskgroup.session.partition import PartitionState as Groups
from anabranch_taskgroup.session.turn import DecisionConfig as SessionConfig


class Shadow:
    """The folds of all partitions. `report` receives a violated promise."""

    def __init__(self, names: Names, report: Callable[[str], None]) -> None:
        self._names = names
        self._report = report
        self._folds: dict[tuple[str, int], _Fold] = {}
        self.compared = 0
        """Number of snapshots that were compared."""

    def appended(self, record: Incoming) -> None:
        """Observe a record that was appended to the log."""
        if record.topic not in (self._names.runs, self._names.groups):
            return
        place = record.topic, record.partition
        fold = self._folds.get(place)
        if fold is None:
            make = _RunsFold if record.topic == self._names.runs else _GroupsFold
            fold = self._folds[place] = make(self._names, record.partition)
        found = fold.append(record)
        if found is not None:
            self._compare(fold, record, *found)

    def _compare(self, fold: _Fold, record: Incoming, snapshot: Snapshot, payload: tuple[bytes, ...]) -> None:
        if fold.position > snapshot.upto:
            return  # of an owner that lags behind another one: its state was passed
        fold.read_up_to(snapshot.upto)
        expected, found = fold.run(snapshot.run_id), fold.decode(snapshot, payload)
        self.compared += 1
        if expected != found:
            place = f"{record.topic}/{record.partition}/{record.offset}"
            what = "it is not open" if expected is None else ", ".join(_differing(expected, found))
            self._report(f"the snapshot of {snapshot.run_id} at {place} is not the fold: {what}")


def _differing(expected: Any, found: Any) -> list[str]:
    """The fields in which two states differ."""
    names = [each.name for each in fields(expected) if each.compare]
    different = [name for name in names if getattr(expected, name) != getattr(found, name)]
    return [f"{name} is {getattr(found, name)!r}, expected {getattr(expected, name)!r}" for name in different]


class _Fold:
    """The fold over one partition."""

    codec: Codec[Any]

    def __init__(self, names: Names, partition: int) -> None:
        self._assembler = Assembler()
        self._waiting: deque[Incoming] = deque()
        self.position = -1

    def append(self, record: Incoming) -> tuple[Snapshot, tuple[bytes, ...]] | None:
        """Queue a record; returns the snapshot in it, if it is one."""
        value = self._assembler.whole(record.value, record.offset, record.timestamp)
        record = replace(record, value=value)
        self._waiting.append(record)
        try:
            found = self.codec.decode(value)
        except Undecodable:
            return None
        return (found.message, found.segments) if isinstance(found.message, Snapshot) else None

    def read_up_to(self, offset: int) -> None:
        """Fold the queued records up to an offset."""
        while self._waiting and self._waiting[0].offset <= offset:
            record = self._waiting.popleft()
            self.position = record.offset
            try:
                self.decide(record)
            except Exception:  # noqa: BLE001 - the owner dead-letters such a record, and its fold goes on
                continue

    def decide(self, record: Incoming) -> None:
        raise NotImplementedError

    def run(self, run_id: str) -> Any:
        raise NotImplementedError

    def decode(self, snapshot: Snapshot, payload: tuple[bytes, ...]) -> Any:
        raise NotImplementedError


class _RunsFold(_Fold):
    codec = RUNS

    def __init__(self, names: Names, partition: int) -> None:
        super().__init__(names, partition)
        self._config = RunConfig(names)
        self._state = Runs(partition)

    def decide(self, record: Incoming) -> None:
        agency.decide_delivered(self._config, self._state, delivered(record, RUNS.decode(record.value)))

    def run(self, run_id: str) -> RunState | Address | None:
        if is_event_address(run_id):
            return self._state.addresses.get(run_id)
        if is_limit_address(run_id):
            return self._state.limits.get(run_id)
        if is_schedule_address(run_id):
            return self._state.schedules.get(run_id)
        run = self._state.runs.get(run_id)
        return None if run is None else RunState(run, self._state.observed.get(run_id, {}))

    def decode(self, snapshot: Snapshot, payload: tuple[bytes, ...]) -> RunState | Address:
        return run_snapshots.decode_run(snapshot, payload)


class _GroupsFold(_Fold):
    codec = GROUPS

    def __init__(self, names: Names, partition: int) -> None:
        super().__init__(names, partition)
        self._config = SessionConfig(names)
        self._state = Groups(partition)

    def decide(self, record: Incoming) -> None:
        taskgroup.decide(self._config, self._state, delivered(record, GROUPS.decode(record.value)))

    def run(self, run_id: str) -> Any:
        return self._state.runs.get(run_id)

    def decode(self, snapshot: Snapshot, payload: tuple[bytes, ...]) -> Any:
        return session_snapshots.decode_run(snapshot, payload)
