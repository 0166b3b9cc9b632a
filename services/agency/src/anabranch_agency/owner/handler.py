"""The run owner's part of the shell: decisions about records of the topic `runs`, and effects of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import orjson

from anabranch.core import limit_addresses
from anabranch.core.admissions import log_position
from anabranch.core.schedules import addresses as schedule_addresses
from anabranch.core.schedules.views import LIST_SECONDS, MAX_LISTED
from anabranch.core.snapshots import PartitionTrail
from anabranch.core.wire.codec import RUNS, Undecodable, encode
from anabranch.core.wire.events import EventBatch
from anabranch.core.wire.messages import Message, RunUnknown, TimerDue
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.instrumentation.correlation import ids_of
from anabranch.runtime.ownership.dead_letter import dead_letter
from anabranch.runtime.ownership.deciding import decide_each, event_records
from anabranch.runtime.ownership.effects import Effect, PublishAfter, PublishFirst
from anabranch.runtime.ownership.handler import Recall
from anabranch.runtime.ownership.snapshots import delivered, is_snapshot
from anabranch.runtime.process.resources import Resources
from anabranch_agency.intake.children import ChildRequests
from anabranch_agency.intake.firings import FiringRequests
from anabranch_agency.intake.forks import ForkRequests
from anabranch_agency.owner.event_ids import ADDRESS_PREFIX, recall_event_ids
from anabranch_agency.owner.metrics import counts_of, spans_of
from anabranch_agency.owner.original_records import Origin, originals
from anabranch_agency.owner.resubmit import resubmitted
from anabranch_agency.owner.snapshots import run_snapshots
from anabranch_agency.owner.stale_records import admitted_runs
from anabranch_agency.run.actor import decide_delivered
from anabranch_agency.run.children import AdmitChild
from anabranch_agency.run.control import early_command
from anabranch_agency.run.faults import abandon
from anabranch_agency.run.firings import ListSchedule, SubmitFiring
from anabranch_agency.run.forks import Fork
from anabranch_agency.run.schedules import moved
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import (
    SIGNALS,
    DeadLetterOriginal,
    DecisionConfig,
    EventOf,
    Resubmit,
    RunLimits,
    Turn,
)

log = logging.getLogger(__name__)

_ADDRESSES = (ADDRESS_PREFIX, limit_addresses.PREFIX.encode(), schedule_addresses.PREFIX.encode())
"""How the key of each record about an address begins: of events, a limit, or a schedule."""


class RunsHandler:
    """The handler of the owner of `runs` partitions."""

    def __init__(self, resources: Resources, config: DecisionConfig) -> None:
        self._log = resources.log
        self._telemetry = resources.telemetry
        self._names = config.names
        self._config = config
        self._children: ChildRequests | None = None
        self._forks: ForkRequests | None = None
        self._firings: FiringRequests | None = None
        self._store = resources.store
        self.topic = config.names.runs
        self.group = config.names.agency_runs
        self.snapshots = run_snapshots(self._names)

    def set_limits(self, result_bytes: int, limits: RunLimits) -> None:
        """Set the limits of the log and of the settings. Called before the first decision."""
        self._config = replace(self._config, result_bytes=result_bytes, limits=limits)

    def set_intake(self, children: ChildRequests, forks: ForkRequests, firings: FiringRequests) -> None:
        """Set what validates the requests of sub-runs, forks and schedules. Called before the first decision."""
        self._children, self._forks, self._firings = children, forks, firings

    def fence_key(self, scope: str) -> str:
        return self._names.run_fence(scope)

    def new_state(self, partition: int, generation: int) -> PartitionState:
        return PartitionState(partition, generation, is_rebuilding=True, trail=PartitionTrail(strays={}))

    async def prepare(self, state: PartitionState, records: Sequence[Incoming], recall: Recall) -> None:
        """Read the tombstones of runs that are not in memory: they may have ended a while ago.

        A tombstone counts only for records after the one that admitted its run: a replay must not see the outcome
        of a record that it has not read yet.
        """
        # The effects of the last batch are performed by now, so the store has the records that are dropped here.
        state.trim()
        unknown: dict[str, None] = {}
        published: list[Incoming] = []
        for record in records:
            # A snapshot needs nothing from the store: a rebuild would ask about each idle run for it.
            if record.key is None or (state.is_rebuilding and is_snapshot(record)):
                continue
            if record.key.startswith(_ADDRESSES):
                if record.key.startswith(ADDRESS_PREFIX):
                    published.append(record)
                continue
            run_id = record.key.decode("utf-8", "replace")
            if run_id not in state.runs and (run_id not in state.tombstones or state.is_unverified(run_id)):
                unknown[run_id] = None
        if published:
            await recall_event_ids(state, self._names, published, recall)
        if not unknown:
            return
        keys = [key for run_id in unknown for key in self._known_keys(run_id)]
        found = await recall(keys)
        first = log_position(state.generation, records[0].offset)
        unended: dict[str, RunRecord] = {}
        for run_id, *values, signals in zip(
            unknown, found[::4], found[1::4], found[2::4], found[3::4], strict=True
        ):
            if signals is not None:
                state.early_signals.recall(run_id, signals, first)
            if values == [None, None, None]:
                continue
            self._recall(
                state, run_id, [orjson.loads(value) if value is not None else None for value in values], first
            )
            known = state.tombstones.get(run_id)
            if known is not None and known.final is None:
                unended[run_id] = known
        if state.is_rebuilding:
            state.unverified.update(unended)
            return
        state.unverified.difference_update(unknown)
        if unended:
            found_runs = await admitted_runs(self._log, self._names.runs, state.number, state.generation, unended)
            state.note_ended(found_runs.ended)
            state.forget_misnumbered(found_runs.misnumbered)

    def _known_keys(self, run_id: str) -> tuple[str, str, str, str]:
        names = self._names
        early = names.early
        return names.tombstone(run_id), early(run_id, "stop"), early(run_id, "pause"), early(run_id, SIGNALS)

    def _recall(self, state: PartitionState, run_id: str, known: list[Any], first: int) -> None:
        """Add to the state what the store knew before the record at log position `first`."""
        tombstone, stop, pause = [each if each is not None and each["offset"] < first else None for each in known]
        if tombstone is not None:
            state.remember(run_id, RunRecord.from_document(tombstone))
        if stop is not None:
            state.stop_early(run_id, early_command(stop))
        if pause is not None:
            # Noted like one that was read, so that the same record is dropped if it is published again.
            state.observe_control(run_id, pause.get("origin", ""))
            state.pause_early(run_id, early_command(pause))

    def decide(
        self, state: PartitionState, records: Sequence[Incoming], rejected: list[tuple[Incoming, str]]
    ) -> list[Effect]:
        events: dict[str, list[EventOf]] = {}

        def collect(_: Message, turn: Turn) -> Sequence[Effect]:
            effects = turn.effects
            if turn.ended:
                effects += spans_of(turn, self._telemetry)
            if self._telemetry.measures:
                effects += counts_of(turn)
            for event in turn.events:
                events.setdefault(event.run_id, []).append(event)
            return effects

        def refuse(record: Incoming, message: Message | None, why: str) -> Iterable[Effect]:
            if message is None:
                return self._fail_keyed(state, record, why)
            return collect(message, abandon(self._config, state, message, record, why))

        effects = decide_each(
            RUNS,
            records,
            rejected,
            ids=lambda message: _ids(state, message),
            decide=lambda record, found: decide_delivered(self._config, state, delivered(record, found)),
            collect=collect,
            refuse=refuse,
        )
        if not events:
            return effects
        return [*chain.from_iterable(map(self._event_records, events.values())), *effects]

    def dead_letter(
        self, state: PartitionState, record: Incoming, reason: str, rejected: list[tuple[Incoming, str]]
    ) -> Sequence[Effect]:
        """Refuse the request in the record, or fail the run that the record is about."""
        rejected.append((record, reason))
        try:
            message = RUNS.decode(record.value).message
        except Undecodable:
            return self._fail_keyed(state, record, reason)
        return abandon(self._config, state, message, record, reason).effects

    def _fail_keyed(self, state: PartitionState, record: Incoming, why: str) -> Sequence[Effect]:
        """Fail the run whose id is the key of a record that cannot be decoded."""
        run_id = (record.key or b"").decode("utf-8", "replace")
        return abandon(self._config, state, RunUnknown(run_id=run_id), record, why).effects

    def _event_records(self, events: list[EventOf]) -> list[PublishFirst | PublishAfter]:
        """The event records of a run. `run.accepted` is published before the groups are started, because their
        owners publish events of the run, too."""
        first = events[0]
        opens_run = False
        entries = []
        for event in events:
            opens_run = opens_run or event.entry.type == "run.accepted"
            entries.append(event.entry)
        batch = EventBatch(
            run_id=first.run_id,
            request_id=first.request_id,
            session_id=first.session_id,
            source="runs",
            entries=tuple(entries),
        )
        return event_records(self._names, batch, first=opens_run)

    def oldest_open(self, state: PartitionState) -> int | None:
        return state.oldest_open()

    def next_due(self, state: PartitionState) -> float | None:
        return state.next_deadline()

    def due_records(self, state: PartitionState, now: float) -> Sequence[Outgoing]:
        # The heap has stale entries: a run that is being stopped has a later due time, see `Run.due`.
        due = {run_id for at, run_id in state.deadlines if at <= now}
        opened = state.opened
        runs = [opened[run_id] for run_id in due if run_id in opened]
        messages = [TimerDue(run_id=run.run_id, at=now) for run in runs if run.due <= now]
        return [Outgoing(self._names.runs, message.run_id, encode(message)) for message in messages]

    def orphans(self, state: PartitionState) -> Sequence[Outgoing]:
        """Each run ends as lost. A schedule goes on in the new topic."""
        messages: list[Message] = [RunUnknown(run_id=run_id) for run_id in state.runs]
        messages += map(moved, state.schedules.values())
        return [Outgoing(self._names.runs, each.run_id, encode(each)) for each in messages]  # type: ignore[attr-defined]

    def is_derived(self, effect: Effect) -> bool:
        return False

    def is_stored(self, effect: Effect) -> bool:
        return False

    async def make_durable(self, state: PartitionState, effects: Sequence[Effect], epoch: int) -> None:
        refusals, retries, children, forks, firings = [], [], [], [], []
        for effect in effects:
            if isinstance(effect, DeadLetterOriginal) and effect.origin:
                refusals.append(effect)
            elif isinstance(effect, Resubmit):
                retries.append(effect)
            elif isinstance(effect, AdmitChild):
                children.append(effect.message)
            elif isinstance(effect, Fork):
                forks.append(effect)
            elif isinstance(effect, SubmitFiring):
                firings.append(effect)
            elif isinstance(effect, ListSchedule):
                await self._list_schedule(effect)
        if refusals:
            await self._dead_letter_originals(refusals)
        if children:
            assert self._children is not None
            await self._children.submit(children)
        if firings:
            assert self._firings is not None
            await self._firings.submit(firings)
        for fork in forks:
            assert self._forks is not None
            await self._forks.submit(state.number, fork)
        for retry in retries:
            await self._log.publish(await resubmitted(self._log, self._names, state.number, retry))

    async def _list_schedule(self, effect: ListSchedule) -> None:
        index = self._names.schedule_list
        if effect.is_listed:
            await self._store.index_add(index, {effect.address: 0.0}, keep=MAX_LISTED, ttl=LIST_SECONDS)
        else:
            await self._store.index_remove(index, [effect.address])

    async def _dead_letter_originals(self, refusals: Sequence[DeadLetterOriginal]) -> None:
        """Publish the original records of refused requests as dead letters, without those that are gone."""
        found = await originals(self._log, (Origin.of(each.origin) for each in refusals))
        records = [(found[origin], each) for each in refusals if (origin := Origin.of(each.origin)) in found]
        if missing := len(refusals) - len(records):
            log.warning("agency: %d refused requests are no longer on the log and get no dead letters", missing)
        await self._log.publish(
            [
                dead_letter(self._names, record, each.reason, code=each.code, project=each.project)
                for record, each in records
            ]
        )

    async def start_work(self, state: PartitionState, effects: Sequence[Effect]) -> None:
        """Nothing to do: a run's owner starts work by records only."""

    def on_rebuilt(self, state: PartitionState, open_from: int) -> None:
        state.rebuilt(open_from)

    async def on_takeover(self, state: PartitionState) -> None:
        """Nothing to do: the shell derives timers from the state."""

    async def hand_over(self, state: PartitionState) -> None:
        """Nothing to do, as in `on_release`."""

    async def on_release(self, state: PartitionState) -> None:
        """Nothing to do: a run's owner has no work outside its turns."""


def _ids(state: PartitionState, message: Message) -> dict[str, str]:
    run = state.runs.get(getattr(message, "run_id", ""))
    return ids_of(message, run.traceparent if run is not None else None)
