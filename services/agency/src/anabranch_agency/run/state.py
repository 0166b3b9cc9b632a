"""The state of a run's owner: the fold over one partition of `runs`. Data with invariants, no decisions. Pure."""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, Literal

import orjson

from anabranch.core.admissions import admission_at, parts_of
from anabranch.core.costs import GroupCosts
from anabranch.core.event_addresses import ID_SECONDS
from anabranch.core.snapshots import PartitionTrail, RunTrail
from anabranch.core.wire.messages import (
    Counts,
    Failure,
    Json,
    LimitRule,
    PhaseName,
    SkippedTask,
    Snapshot,
    Status,
    StopReason,
    SubmitRun,
)
from anabranch.core.wire.run_record import RunRecord
from anabranch_agency.run.early_signals import EarlySignal, EarlySignals
from anabranch_agency.run.event_state import EventAddress, Place
from anabranch_agency.run.limit_state import LimitAddress
from anabranch_agency.run.schedule_state import ScheduleState

Address = EventAddress | LimitAddress | ScheduleState

MAX_REMEMBERED = 20_000
SPARE_DEADLINES = 64
"""Stale deadlines that the heap may hold before it is rebuilt. Without a bound, a run that stays open for long
would keep the deadlines of all later runs in memory."""
STOP_SECONDS = 60.0
"""Seconds between the deadline of a run (or its stop, if that is later) and its end, whatever its groups do."""
ENDING_SECONDS = 900.0
"""The same for a run with phases of its end, from the longest time of the last one that has begun. It is more,
because compensations and `finally` run whatever happens, also if the owner of the session is away for a while."""
TOMBSTONE_BYTES = 16_000
"""Bytes of run records, as JSON, that a partition keeps in memory between batches. As objects they need eight
times as much. The store has all of them."""


@dataclass(frozen=True, slots=True)
class Command:
    """A control record that was applied: its action, who gave it, why, and its time in seconds since the epoch."""

    action: str
    by: str = ""
    reason: str = ""
    at: float = 0.0

    def shown(self) -> dict[str, str]:
        """Its fields in a lifecycle event: `by` and `reason` where they are given."""
        return {name: value for name, value in (("by", self.by), ("reason", self.reason)) if value}


@dataclass(slots=True)
class HeldStart:
    """The start of a run that waits for its time. `until` is in seconds since the epoch."""

    submit: SubmitRun
    until: float
    signals: dict[str, EarlySignal] = field(default_factory=dict)
    """By their ids: the session's owner gets them once it has the run."""


@dataclass(slots=True)
class RunPlace:
    """The place of a run under a concurrency key, which it waits for since `since`, or holds."""

    address: str
    rule: LimitRule
    since: float
    is_held: bool = False


@dataclass(slots=True)
class Run:
    """An open run. `waiting` are the groups that have not ended; the join completes when it is empty."""

    run_id: str
    tombstone: RunRecord
    deadline: float
    name: str | None
    labels: dict[str, str]
    waiting: set[str]
    warnings: tuple[str, ...]
    traceparent: str | None = None
    stopping: StopReason | None = None
    stopped_at: float = 0.0
    """When the stop was requested, in seconds since the epoch."""
    fault: bool = False
    """Whether a service failed to continue the run. It then ends as failed, whatever the status of its groups."""
    statuses: set[Status] = field(default_factory=set)
    results: dict[str, Json] = field(default_factory=dict)
    result_parts: set[tuple[str, int]] = field(default_factory=set)
    """(group, part) of each GroupResults message that was read."""
    failures: list[Failure] = field(default_factory=list)
    failure_count: int = 0
    failure_pages: dict[str, tuple[tuple[str, int, int], ...]] = field(default_factory=dict)
    """Pages with all failures, by group, for groups with more failures than their report has."""
    counts: Counts = field(default_factory=Counts)
    paused: bool = False
    retry_of: str | None = None
    taken_over: int = 0
    handled_failures: int = 0
    skipped: list[SkippedTask] = field(default_factory=list)
    costs: list[GroupCosts] = field(default_factory=list)
    """What the tasks of the groups have used that have ended."""
    stopped_by: Command | None = None
    """The command that stopped the run."""
    terminated: bool = False
    """The run ends without what it does after a cancellation."""
    phases: tuple[PhaseName, ...] = ()
    """The groups of its end; see OpenRun."""
    phase: PhaseName | None = None
    """The group of its end that has started last."""
    ends_by: float = 0.0
    """When that phase has ended at the latest, in seconds since the epoch."""
    compensation: Literal["complete", "incomplete"] | None = None
    """Whether each compensation has completed; None if there was none, or it has not ended."""
    origin: str = ""
    """`topic/partition/offset` of the record on the requests topic."""
    held: HeldStart | None = None
    """Of a run that is admitted and has not started: the owner of its session does not know it yet."""
    place: RunPlace | None = None
    """Of a run with a concurrency key, once it was to start."""
    trail: RunTrail = field(default_factory=RunTrail, compare=False)
    """What the log has of the run: no part of its state."""
    session_id: str = field(init=False)
    request_id: str = field(init=False)
    admission: int = field(init=False)
    """Distinguishes this run from an earlier one with the same id; see `core.admissions`."""

    @property
    def opened_at_offset(self) -> int:
        """Offset of the record that admitted the run."""
        return parts_of(self.tombstone.offset)[1]

    def __post_init__(self) -> None:
        self.session_id = self.tombstone.session_id
        self.request_id = self.tombstone.request_id
        self.admission = admission_at(self.tombstone.offset)

    @property
    def due(self) -> float:
        """When the run is to be stopped; if it is being stopped, when it ends without its groups. Seconds since
        the epoch. Of a run that has not started, when it does."""
        if self.stopping is None and self.phase is None:
            return self.deadline if self.held is None else min(self.deadline, self.held.until)
        wait = ENDING_SECONDS if self.phases and not self.terminated else STOP_SECONDS
        return max(self.deadline, self.stopped_at, self.ends_by) + wait


@dataclass(slots=True)
class RunState:
    """What the fold knows of an open run: the content of a snapshot.

    Attributes:
        observed: the offset of its last pause or resume in each partition of `requests`.
    """

    run: Run
    observed: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class PartitionState:
    """The fold over one partition of `runs`."""

    number: int
    generation: int = 0
    """Of the log; see `core.admissions`."""
    runs: dict[str, Run] = field(default_factory=dict)
    addresses: dict[str, EventAddress] = field(default_factory=dict)
    """The events and waits for them, by address."""
    limits: dict[str, LimitAddress] = field(default_factory=dict)
    """The limits that runs share, by address."""
    ended_waits: OrderedDict[tuple[str, Place], int] = field(default_factory=OrderedDict)
    """Waits of addresses that were closed since: by address and member, with the admissions of their runs. A late
    repetition would otherwise open one again, until the deadline of its run."""
    schedules: dict[str, ScheduleState] = field(default_factory=dict)
    """By address."""
    known_events: OrderedDict[tuple[str, str], tuple[int, float]] = field(default_factory=OrderedDict)
    """By address and id of an event: position of its first publication, and the time in seconds since the epoch.
    The store has all of them."""
    tombstones: OrderedDict[str, RunRecord] = field(default_factory=OrderedDict)
    """Records of ended runs, and of runs that were read from the store."""
    sizes: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """Bytes of each record in `tombstones`."""
    cached_bytes: int = 0
    early_stops: OrderedDict[str, Command] = field(default_factory=OrderedDict)
    """Runs that were cancelled before they were submitted."""
    early_pauses: OrderedDict[str, Command] = field(default_factory=OrderedDict)
    """Runs that were paused and not resumed before they were submitted."""
    early_signals: EarlySignals = field(default_factory=EarlySignals)
    """Signals for runs that are not submitted yet."""
    observed: OrderedDict[str, dict[str, int]] = field(default_factory=OrderedDict)
    """By run: the offset of its last pause or resume in each partition of `requests`."""
    dropped_at_rebuild: set[str] = field(default_factory=set)
    """Runs that the last rebuild left open and dropped: the log does not show how they ended."""
    unverified: set[str] = field(default_factory=set)
    """Runs whose record, as a rebuild read it, has no end. A snapshot may restore them; those that are not open
    after the rebuild are compared with the log."""
    ended_unrecorded: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Runs that had ended, of which the store has only an older record without the end."""
    deadlines: list[tuple[float, str]] = field(default_factory=list)
    trail: PartitionTrail[RunState] = field(default_factory=PartitionTrail)
    """How far the partition was read, and from where its runs are restored."""
    dropped: dict[str, int] = field(default_factory=dict)
    is_rebuilding: bool = False
    """True while the records before the last commit are read. Their effects are not performed again."""

    def rebuilt(self, open_from: int) -> None:
        """Ends the rebuild: all records before the last commit were read.

        Drops runs whose pin is before offset `open_from`: they had ended by the commit, and are open only because
        a repetition of the request admitted them again.
        """
        self.is_rebuilding = False
        for run in list(self.runs.values()):
            if run.trail.pin < open_from:
                del self.runs[run.run_id]
                self.dropped_at_rebuild.add(run.run_id)
                self.drop("run that had ended, admitted by a repetition")
        addresses: list[Address] = [*self.addresses.values(), *self.limits.values(), *self.schedules.values()]
        for address in addresses:
            if address.trail.pin < open_from:
                self.close_address(address)
                self.drop("address that had nothing by the commit")

    def is_unverified(self, run_id: str) -> bool:
        """True if a rebuild has read the record of a run that is not open, and the log was not asked since."""
        return run_id in self.unverified and not self.is_rebuilding

    def note_ended(self, run_ids: Iterable[str]) -> None:
        """Note runs that the log shows as ended, unless this owner dropped them without their end: then the commit
        may be of an earlier topic with the same name, and the run may never have been started."""
        ended = (run_id for run_id in run_ids if run_id not in self.dropped_at_rebuild)
        self.ended_unrecorded.update(dict.fromkeys(ended))
        while len(self.ended_unrecorded) > MAX_REMEMBERED:
            self.ended_unrecorded.popitem(last=False)

    def forget_misnumbered(self, run_ids: Iterable[str]) -> None:
        """Forget the records of runs that are to be admitted anew, see `owner.stale_records`."""
        for run_id in run_ids:
            self._forget(run_id)

    def restore(self, state: RunState, snapshot: Snapshot, at: float, size: int) -> None:
        """Put a run that was read from a snapshot in the place of what the state has of it.

        The state may have early control records: records of the run that were read before the snapshot, and that
        the run in the snapshot has obeyed. It may have the run as a repetition of its request admitted it.

        Args:
            at: timestamp of the snapshot; `size` are its bytes.
        """
        run = state.run
        self.pop_early(run.run_id)
        self.early_signals.pop(run.run_id)
        self.observed.pop(run.run_id, None)
        if state.observed:
            self.observed[run.run_id] = state.observed
        self.open(run, snapshot.upto + 1, at)
        run.trail.last, run.trail.touched_at, run.trail.size = snapshot.upto, snapshot.touched_at, size

    def open(self, run: Run, pin: int, at: float) -> None:
        """Add an open run, which a replay from offset `pin` restores. `at` is the timestamp of the record that
        opened it, or of its snapshot."""
        self.runs[run.run_id] = run
        self.ended_unrecorded.pop(run.run_id, None)
        self.trail.opened(run, pin, at, self.opened)
        self.arm(run)
        if len(self.deadlines) > SPARE_DEADLINES + 4 * (len(self.runs) + len(self.addresses) + len(self.limits)):
            opened = self.opened
            self.deadlines = [entry for entry in self.deadlines if entry[1] in opened]
            heapify(self.deadlines)

    @property
    def opened(self) -> MutableMapping[str, Any]:
        """What a replay restores: the open runs, and the addresses of events, limits and schedules."""
        if not (self.addresses or self.limits or self.schedules):
            return self.runs
        return ChainMap[str, Any](self.addresses, self.limits, self.schedules, self.runs)

    # --- addresses ---------------------------------------------------------------------------------------

    def open_address(self, address: Address, pin: int, at: float) -> None:
        """Add an address, which a replay from offset `pin` restores. `at` is the timestamp of the record that
        opened it, or of its snapshot."""
        if isinstance(address, EventAddress):
            self.addresses[address.run_id] = address
        elif isinstance(address, ScheduleState):
            self.schedules[address.run_id] = address
        else:
            self.limits[address.run_id] = address
        self.trail.opened(address, pin, at, self.opened)

    def close_address(self, address: Address) -> None:
        """Drop an address that has nothing."""
        events = self.addresses.pop(address.run_id, None)
        if events is not None and events.ended:
            self.ended_waits.update({(address.run_id, place): known for place, known in events.ended.items()})
            while len(self.ended_waits) > MAX_REMEMBERED:
                self.ended_waits.popitem(last=False)
        self.limits.pop(address.run_id, None)
        self.schedules.pop(address.run_id, None)

    def limit(self, address: str) -> LimitAddress | None:
        """The limit with an address; None if nothing holds it or waits for it."""
        return self.limits.get(address)

    def arm_address(self, address: Address, at: float, *, again: bool = False) -> None:
        """Have the owner look at an address at a time. A later time counts only `again`, after a look."""
        if at < address.due or again:
            address.due = at
            if at < inf:
                heappush(self.deadlines, (at, address.run_id))

    def is_ended_wait(self, address: str, place: Place, admission: int) -> bool:
        """True if a wait of a member had ended when its address was closed."""
        return self.ended_waits.get((address, place)) == admission

    def is_known_event(self, address: str, event_id: str, position: int, at: float) -> bool:
        """True if an event of this id was published before the record at `position`, seven days ago at most."""
        known = self.known_events.get((address, event_id))
        return known is not None and known[0] < position and at - known[1] < ID_SECONDS

    def note_event(self, address: str, event_id: str, position: int, at: float) -> None:
        """Note the id of a published event."""
        self.known_events[address, event_id] = position, at

    # --- memory ------------------------------------------------------------------------------------------

    def close(self, run_id: str, tombstone: RunRecord) -> None:
        self.runs.pop(run_id, None)
        self.remember(run_id, tombstone)

    def remember(self, run_id: str, tombstone: RunRecord) -> None:
        self._forget(run_id)
        self.tombstones[run_id] = tombstone
        self.sizes[run_id] = _size(tombstone)
        self.cached_bytes += self.sizes[run_id]

    def trim(self) -> None:
        """Remove the oldest records from memory until they fit into the byte limit. Call it only after the effects
        of a batch were performed: before that, the store lacks the records of runs that ended in the batch."""
        while self.cached_bytes > TOMBSTONE_BYTES:
            self._forget(next(iter(self.tombstones)))
        if self.early_signals.held_bytes:
            self.early_signals.trim()
        while len(self.known_events) > MAX_REMEMBERED:
            self.known_events.popitem(last=False)

    def _forget(self, run_id: str) -> None:
        self.tombstones.pop(run_id, None)
        self.cached_bytes -= self.sizes.pop(run_id, 0)

    def stop_early(self, run_id: str, command: Command) -> None:
        self.early_stops[run_id] = command
        while len(self.early_stops) > MAX_REMEMBERED:
            self.early_stops.popitem(last=False)

    def pause_early(self, run_id: str, command: Command) -> None:
        # A resume removes the pause, and a repeated pause makes the entry the youngest.
        self.early_pauses.pop(run_id, None)
        if command.action == "pause":
            self.early_pauses[run_id] = command
        while len(self.early_pauses) > MAX_REMEMBERED:
            self.early_pauses.popitem(last=False)

    def observe_control(self, run_id: str, origin: str) -> bool:
        """Note a pause or resume by its position `topic/partition/offset`.

        False if it, or a later one of the same partition, was applied before: a consumer that had lost the
        partition may publish an old one again.
        """
        # Records of earlier releases have no origin.
        partition, _, offset = origin.rpartition("/")
        if not partition:
            return True
        last = self.observed.setdefault(run_id, {})
        self.observed.move_to_end(run_id)
        while len(self.observed) > MAX_REMEMBERED:
            self.observed.popitem(last=False)
        is_new = int(offset) > last.get(partition, -1)
        last[partition] = max(int(offset), last.get(partition, -1))
        return is_new

    def pop_early(self, run_id: str) -> tuple[Command | None, Command | None]:
        """Remove and return the early commands for a run: its stop and its pause. They apply to this run only, not
        to a later one with the same id."""
        return self.early_stops.pop(run_id, None), self.early_pauses.pop(run_id, None)

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def oldest_open(self) -> int | None:
        """The lowest offset from which a replay restores each open run; None if no run is open."""
        return self.trail.oldest(self.opened)

    def next_deadline(self) -> float | None:
        """When the next run (see `Run.due`) or address is due, in seconds since the epoch."""
        while self.deadlines:
            due, run_id = self.deadlines[0]
            run: Run | Address | None = self.runs.get(run_id) or self.addresses.get(run_id)
            run = run or self.limits.get(run_id) or self.schedules.get(run_id)
            if run is not None and due == run.due:
                return due
            # A stale entry: the run has ended, or was scheduled again with a later due time.
            heappop(self.deadlines)
        return None

    def arm(self, run: Run) -> None:
        """Schedule a run that was opened or is being stopped."""
        heappush(self.deadlines, (run.due, run.run_id))


def _size(record: RunRecord) -> int:
    """The approximate size of a record as JSON, in bytes."""
    return len(orjson.dumps([record.accepted, record.final]))
