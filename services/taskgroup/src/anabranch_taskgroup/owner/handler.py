"""The session owner's part of the shell: decisions about records of the topic `groups`, and effects of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial

import orjson

from anabranch.core.admissions import log_position
from anabranch.core.snapshots import PartitionTrail
from anabranch.core.wire.codec import GROUPS, Undecodable, encode
from anabranch.core.wire.events import EVENT_TYPES, EventBatch, EventEntry
from anabranch.core.wire.messages import (
    ChunkLost,
    ChunkReturned,
    MembersReported,
    Message,
    Nudge,
    OpenRun,
    TimerDue,
)
from anabranch.ports import Incoming, Outgoing, Write
from anabranch.runtime.instrumentation.correlation import ids_of
from anabranch.runtime.ownership.deciding import decide_each, event_records
from anabranch.runtime.ownership.effects import Effect, PublishAfter, PublishFirst
from anabranch.runtime.ownership.handler import Recall
from anabranch.runtime.ownership.snapshots import delivered
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch_taskgroup.owner.context_store import fold_key
from anabranch_taskgroup.owner.derived_keys import write_derived_keys
from anabranch_taskgroup.owner.dispatch import Dispatcher
from anabranch_taskgroup.owner.key_watcher import KeyWatcher, OutsideKey
from anabranch_taskgroup.owner.metrics import counts_of, spans_of
from anabranch_taskgroup.owner.offers import Offers
from anabranch_taskgroup.owner.outside_values import OutsideValues
from anabranch_taskgroup.owner.performers import Performers
from anabranch_taskgroup.owner.retry_import import RetryImports
from anabranch_taskgroup.owner.snapshots import session_snapshots
from anabranch_taskgroup.session.actor import decide
from anabranch_taskgroup.session.derive import DERIVED, derive
from anabranch_taskgroup.session.faults import OPENS, fail_named, fail_run
from anabranch_taskgroup.session.idle import IdleHints
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.rebuilding import drop_ended
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.turn import DecisionConfig, FoldKey, StoreMissing, Turn, WriteDerivedKeys

log = logging.getLogger(__name__)

_OF_CHUNKS = (MembersReported, ChunkReturned, ChunkLost)
"""The messages that show that a worker has taken a chunk."""
GROUP_ENDS = frozenset(each for each in EVENT_TYPES if each.startswith("group.")) - {"group.started"}
"""The types of the events with which a group ends."""


class GroupsHandler:
    """The handler of the owner of `groups` partitions."""

    def __init__(
        self,
        resources: Resources,
        config: DecisionConfig,
        offers: Offers,
        dispatcher: Dispatcher,
        life: StoreIdentityTracker,
    ) -> None:
        self._resources = resources
        self._config = config
        self._names = config.names
        self.topic = self._names.groups
        self.group = self._names.taskgroup_groups
        self._telemetry = resources.telemetry
        self._hints = IdleHints()
        self.snapshots = session_snapshots(self._names)
        self.watcher = KeyWatcher(resources, self._append_values)
        self._outside = OutsideValues(resources.log, resources.store, config)
        self._imports = RetryImports(resources, self._append_values)
        self._dispatcher = dispatcher
        self._performers = Performers(resources, config, offers, dispatcher, life, self.watcher, self._imports)

    def fence_key(self, scope: str) -> str:
        return self._names.fence(scope)

    def new_state(self, partition: int, generation: int) -> PartitionState:
        return PartitionState(partition, generation, trail=PartitionTrail(strays={}))

    # --- deciding ----------------------------------------------------------------------------------

    async def prepare(self, state: PartitionState, records: Sequence[Incoming], recall: Recall) -> None:
        """Read the tombstones of runs that the records open and that are not in memory: they may have ended, or
        been stopped, before the first record of the replay. A tombstone counts for records that follow its own
        only."""
        state.begin(records[0].timestamp)
        opened = dict(filter(None, map(_opened, records)))
        unknown = [run_id for run_id, at in opened.items() if state.may_be_unknown(run_id, at)]
        if not unknown:
            return
        found = await recall([self._names.in_session(run_id) for run_id in unknown])
        for run_id, value in zip(unknown, found, strict=True):
            known = orjson.loads(value) if value is not None else None
            first = log_position(state.generation, records[0].offset)
            if known is not None and known["offset"] < first:
                state.add_tombstone(run_id, known["reason"], known.get("admission", 0), records[0].timestamp)

    def decide(
        self, state: PartitionState, records: Sequence[Incoming], rejected: list[tuple[Incoming, str]]
    ) -> list[Effect]:
        events: dict[str, tuple[Run, list[EventEntry]]] = {}
        touched: dict[str, Run] = {}
        waiting = self._dispatcher.window.waiting

        def collect(message: Message, turn: Turn) -> list[Effect]:
            effects = turn.effects
            if turn.ended:
                effects += spans_of(turn, self._telemetry)
            if waiting and isinstance(message, _OF_CHUNKS):
                key = (message.run_id, message.group, message.task, message.chunk, message.fence)
                if key in waiting:
                    self._dispatcher.note_begun(key)
            if self._telemetry.measures:
                effects += counts_of(turn, message)
            for run, entry in turn.events:
                events.setdefault(run.run_id, (run, []))[1].append(entry)
            open_run = _run_of(state, message)
            if open_run is not None:
                touched[open_run.run_id] = open_run
            return effects

        effects = decide_each(
            GROUPS,
            records,
            rejected,
            ids=lambda message: _ids(state, message),
            decide=lambda record, found: decide(self._config, state, delivered(record, found)),
            collect=collect,
            refuse=partial(self._refuse, state),
        )
        # A run may become idle without an event: a batch without entries then has the new hint.
        for run in touched.values():
            if run.run_id not in events and self._hints.has_changed(state, run):
                events[run.run_id] = (run, [])
        records_of_events = [
            each for run, entries in events.values() for each in self._event_records(state, run, entries)
        ]
        return [*records_of_events, *effects]

    def _refuse(
        self, state: PartitionState, record: Incoming, message: Message | None, why: str
    ) -> Iterable[Effect]:
        if message is None:
            return fail_named(self._config, state, record, why)
        return fail_run(self._config, state, message, record, why)

    def dead_letter(
        self, state: PartitionState, record: Incoming, reason: str, rejected: list[tuple[Incoming, str]]
    ) -> Sequence[Effect]:
        """Fail the run of a poison record. The record is not decoded, since that may be what kills the process."""
        rejected.append((record, reason))
        return list(fail_named(self._config, state, record, reason))

    def _event_records(
        self, state: PartitionState, run: Run, entries: list[EventEntry]
    ) -> list[PublishFirst | PublishAfter]:
        """The event records of a run. The events of a group's end are published before the report to the run's
        owner, so that the event of the run's end follows them on the topic."""
        batch = EventBatch(
            run_id=run.run_id,
            request_id=run.request_id,
            session_id=run.session_id,
            source="groups",
            entries=tuple(entries),
            quiet=self._hints.now(state, run, entries),
        )
        ends_group = not GROUP_ENDS.isdisjoint([entry.type for entry in entries])
        return event_records(self._names, batch, first=ends_group)

    def oldest_open(self, state: PartitionState) -> int | None:
        return state.oldest_open()

    def next_due(self, state: PartitionState) -> float | None:
        return state.next_due()

    def due_records(self, state: PartitionState, now: float) -> Sequence[Outgoing]:
        return [self._on_groups(run, TimerDue(run_id=run.run_id, at=now)) for run in state.due(now)]

    def _on_groups(self, run: Run, message: Message) -> Outgoing:
        return Outgoing(self._names.groups, run.session_id, encode(message))

    # --- effects of its own --------------------------------------------------------------------------

    def orphans(self, state: PartitionState) -> Sequence[Outgoing]:
        """A nudge for each open run. In a topic that was created again, the session's owner answers it with
        `RunUnknown`, and the run's owner ends the run."""
        runs = state.runs.values()
        return [self._on_groups(run, Nudge(run_id=run.run_id, silent_for=0.0)) for run in runs]

    def is_derived(self, effect: Effect) -> bool:
        return isinstance(effect, DERIVED)

    def is_stored(self, effect: Effect) -> bool:
        return isinstance(effect, WriteDerivedKeys | FoldKey | StoreMissing)

    async def make_durable(self, state: PartitionState, effects: Sequence[Effect], epoch: int) -> None:
        folds: dict[tuple[str, str, str], list[FoldKey]] = {}
        for effect in effects:
            if isinstance(effect, WriteDerivedKeys):
                await write_derived_keys(
                    effect,
                    epoch,
                    eventlog=self._resources.log,
                    store=self._resources.store,
                    notifier=self._resources.notifier,
                    names=self._names,
                )
            elif isinstance(effect, StoreMissing):
                # A value that the store has is at least as new: another run of the session may have written it.
                missing = [Write(key, value, effect.ttl) for key, value in effect.values]
                await asyncio.gather(*map(self._resources.store.put_new, missing))
            elif isinstance(effect, FoldKey):
                folds.setdefault((effect.session_id, effect.key, effect.policy), []).append(effect)
        if folds:
            await asyncio.gather(*(self._fold(found, epoch) for found in folds.values()))

    async def _fold(self, effects: Sequence[FoldKey], epoch: int) -> None:
        """Fold values of one key, one after the other: each fold reads what the one before it wrote."""
        resources = self._resources
        for effect in effects:
            await fold_key(effect, epoch, resources.store, resources.notifier, self._names)

    async def start_work(self, state: PartitionState, effects: Sequence[Effect]) -> None:
        await self._performers.perform(state, effects)

    async def _append_values(self, found: Sequence[OutsideKey]) -> None:
        """Append values from outside the run to the log, then stop watching their keys."""
        # On the log first: a key that is no longer watched must not be lost with a failed publish.
        await self._outside.append(found)
        await self.watcher.unwatch_all((each.run_id, each.session_id, each.key) for each in found)

    # --- taking over ---------------------------------------------------------------------------------

    def on_rebuilt(self, state: PartitionState, open_from: int) -> None:
        drop_ended(state, open_from)

    async def on_takeover(self, state: PartitionState) -> None:
        """Start what should be under way for each open run."""
        effects = [effect for run in state.runs.values() for effect in derive(run)]
        await self._performers.perform(state, effects)

    async def hand_over(self, state: PartitionState) -> None:
        await self._dispatcher.hand_over(state)

    async def on_release(self, state: PartitionState) -> None:
        self._dispatcher.forget(state)
        await self._imports.stop(list(state.runs))
        for run in state.runs.values():
            await self.watcher.unwatch_all((run.run_id, run.session_id, key) for key in run.watched)


def _run_of(state: PartitionState, message: Message) -> Run | None:
    return state.runs.get(getattr(message, "run_id", ""))


def _ids(state: PartitionState, message: Message) -> dict[str, str]:
    run = _run_of(state, message)
    return ids_of(message, run.traceparent if run is not None else None)


def _opened(record: Incoming) -> tuple[str, float | None] | None:
    """Id and time of submission of the run that a record opens. Searches the header's bytes first: nearly every
    record is of another type, and decoding it twice would cost more than the search."""
    end = record.value.find(b"\n")
    if record.value.find(OPENS, 0, end if end >= 0 else len(record.value)) < 0:
        return None
    try:
        message = GROUPS.decode(record.value).message
    except Undecodable:
        return None
    return (message.run_id, message.submitted_at) if isinstance(message, OpenRun) else None
