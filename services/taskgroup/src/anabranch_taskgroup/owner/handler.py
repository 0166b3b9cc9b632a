"""What the session's owner adds to the shell: decisions on the `groups` topic, and effects of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import orjson

from anabranch.core.admissions import log_position
from anabranch.core.errors import ExpansionError, ValueGone
from anabranch.core.outputs import reference_count
from anabranch.core.wire.codec import GROUPS, Undecodable, encode
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.core.wire.messages import (
    ArrayCounted,
    Json,
    KeyReduced,
    Message,
    Nudge,
    OpenRun,
    TimerDue,
    ValueFound,
)
from anabranch.core.wire.results import reference_document
from anabranch.ports import Incoming, Outgoing, Write
from anabranch.runtime.instrumentation.correlation import ids_of
from anabranch.runtime.ownership.deciding import decide_each, event_records
from anabranch.runtime.ownership.effects import Effect, Expire, PublishAfter, PublishFirst
from anabranch.runtime.ownership.handler import Recall
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.store_identity import StoreLife
from anabranch.runtime.reading.public_values import PublicValue
from anabranch_taskgroup.owner.context_store import fold_key, reduced
from anabranch_taskgroup.owner.derived_keys import spread_keys
from anabranch_taskgroup.owner.dispatch import Dispatcher
from anabranch_taskgroup.owner.key_watcher import KeyWatcher, OutsideKey
from anabranch_taskgroup.owner.metrics import counts_of, spans_of
from anabranch_taskgroup.owner.offers import Offers
from anabranch_taskgroup.owner.retry_import import RetryImports
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.context_merge import pending_reductions
from anabranch_taskgroup.session.faults import OPENS, fail_named, give_up
from anabranch_taskgroup.session.idle import Hints
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.rebuilding import drop_ended
from anabranch_taskgroup.session.retry_import import is_known
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.store_keys import halt_subject
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import (
    CountArrays,
    DecisionConfig,
    FoldKey,
    Halt,
    LookAgain,
    OfferChunk,
    Pause,
    ReduceKey,
    SpreadKeys,
    TakeOver,
    Turn,
    Unwatch,
    Watch,
)
from anabranch_taskgroup.session.value_references import whole

log = logging.getLogger(__name__)

VALUE_BYTES = 700_000
"""An outside value above it stands in the store, and its reference on the log."""
STOP_FLAG_SECONDS = 3_600.0
DERIVED = (OfferChunk, Watch, Unwatch, CountArrays, ReduceKey, TakeOver, LookAgain)


class GroupsHandler:
    """The domain of the owner of `groups` partitions."""

    def __init__(
        self, resources: Resources, rules: DecisionConfig, offers: Offers, dispatcher: Dispatcher, life: StoreLife
    ) -> None:
        self._resources = resources
        self._rules = rules
        self._names = rules.names
        self._offers = offers
        self._dispatcher = dispatcher
        self._life = life
        self._telemetry = resources.telemetry
        self._hints = Hints()
        self.watcher = KeyWatcher(resources, self._values_found)
        self._takeovers = RetryImports(resources, self._values_found)

    @property
    def topic(self) -> str:
        return self._names.groups

    @property
    def group(self) -> str:
        return self._names.taskgroup_groups

    def fence_key(self, scope: str) -> str:
        return self._names.fence(scope)

    def new_state(self, partition: int, generation: int) -> PartitionState:
        return PartitionState(partition, generation)

    # --- deciding ----------------------------------------------------------------------------------

    async def prepare(self, state: PartitionState, records: Sequence[Incoming], recall: Recall) -> None:
        """Ask the store for runs that are to be opened and are not in memory: they may have ended, or be stopped,
        longer ago than the log is replayed. What is known there counts for later records only."""
        asked = {run_id for record in records if (run_id := _opened(record)) is not None}
        unknown = [run_id for run_id in asked if run_id not in state.runs and run_id not in state.tombstones]
        if not unknown:
            return
        found = await recall([self._names.in_session(run_id) for run_id in unknown])
        for run_id, value in zip(unknown, found, strict=True):
            known = orjson.loads(value) if value is not None else None
            first = log_position(state.generation, records[0].offset)
            if known is not None and known["offset"] < first:
                state.add_tombstone(run_id, known["reason"], known.get("admission", 0))

    def decide(
        self, state: PartitionState, records: Sequence[Incoming], rejected: list[tuple[Incoming, str]]
    ) -> list[Effect]:
        events: dict[str, tuple[Run, list[EventEntry]]] = {}
        touched: dict[str, Run] = {}

        def collect(message: Message, turn: Turn) -> Iterator[Effect]:
            yield from turn.effects
            if turn.ended:
                yield from spans_of(turn, self._telemetry)
            if self._telemetry.measures:
                yield from counts_of(turn, message)
            for run, entry in turn.events:
                events.setdefault(run.run_id, (run, []))[1].append(entry)
            open_run = _run_of(state, message)
            if open_run is not None:
                touched[open_run.run_id] = open_run

        effects = decide_each(
            GROUPS,
            records,
            rejected,
            ids=lambda message: _ids(state, message),
            decide=lambda record, found: decide(
                self._rules,
                state,
                DeliveredMessage(found.message, found.segments, record.offset, record.timestamp),
            ),
            collect=collect,
            refuse=partial(self._refuse, state),
        )
        for run in touched.values():
            if run.run_id not in events and self._hints.has_changed(state, run):
                events[run.run_id] = (run, [])
        told = [each for run, entries in events.values() for each in self._event_records(state, run, entries)]
        return [*told, *effects]

    def _refuse(
        self, state: PartitionState, record: Incoming, message: Message | None, why: str
    ) -> Iterable[Effect]:
        if message is None:
            return fail_named(self._rules, state, record, why)
        return give_up(self._rules, state, message, record, why)

    def dead_letter(
        self, state: PartitionState, record: Incoming, reason: str, rejected: list[tuple[Incoming, str]]
    ) -> Sequence[Effect]:
        """Its run fails. The record is not decoded: that may be what kills."""
        rejected.append((record, reason))
        return list(fail_named(self._rules, state, record, reason))

    def _event_records(
        self, state: PartitionState, run: Run, entries: list[EventEntry]
    ) -> Iterator[PublishFirst | PublishAfter]:
        """The event records of a run. The events of a group's end are published before the run's owner is told of
        it, because the event of the run's end follows them on the topic."""
        batch = EventBatch(
            run_id=run.run_id,
            request_id=run.request_id,
            session_id=run.session_id,
            source="groups",
            entries=tuple(entries),
            quiet=self._hints.now(state, run, entries),
        )
        ends_group = any(entry.type.startswith("group.") and entry.type != "group.started" for entry in entries)
        return event_records(self._names, batch, first=ends_group)

    def oldest_open(self, state: PartitionState) -> int | None:
        return state.oldest_open()

    def next_due(self, state: PartitionState) -> float | None:
        return state.next_due()

    def due_records(self, state: PartitionState, now: float) -> Sequence[Outgoing]:
        return [self._on_groups(run.session_id, TimerDue(run_id=run.run_id, at=now)) for run in state.due(now)]

    def _on_groups(self, session_id: str, message: Message) -> Outgoing:
        return Outgoing(self._names.groups, session_id, encode(message))

    # --- effects of its own --------------------------------------------------------------------------

    def orphans(self, state: PartitionState) -> Sequence[Outgoing]:
        """The owner of each run is told that nothing is known of it here."""
        runs = state.runs.values()
        return [self._on_groups(run.session_id, Nudge(run_id=run.run_id, silent_for=0.0)) for run in runs]

    def is_derived(self, effect: Effect) -> bool:
        return isinstance(effect, DERIVED)

    def is_stored(self, effect: Effect) -> bool:
        return isinstance(effect, SpreadKeys | FoldKey)

    async def make_durable(self, state: PartitionState, effects: Sequence[Effect], epoch: int) -> None:
        for effect in effects:
            if isinstance(effect, SpreadKeys):
                await spread_keys(
                    effect,
                    epoch,
                    eventlog=self._resources.log,
                    store=self._resources.store,
                    notifier=self._resources.notifier,
                    names=self._names,
                )

        folds: dict[tuple[str, str, str], list[FoldKey]] = {}
        for effect in effects:
            if isinstance(effect, FoldKey):
                folds.setdefault((effect.session_id, effect.key, effect.policy), []).append(effect)
        await asyncio.gather(*(self._fold(found, epoch) for found in folds.values()))

    async def _fold(self, effects: Sequence[FoldKey], epoch: int) -> None:
        """Of one key, one after the other: each reads what the one before wrote."""
        resources = self._resources
        for effect in effects:
            await fold_key(effect, epoch, resources.store, resources.notifier, self._names)

    async def start_work(self, state: PartitionState, effects: Sequence[Effect]) -> None:
        expiring = [each for each in effects if isinstance(each, Expire)]
        await asyncio.gather(self._start(state, effects), *(self._expire(each) for each in expiring))

    async def _expire(self, effect: Expire) -> None:
        await self._resources.store.expire(effect.keys, effect.ttl)

    async def _start(self, state: PartitionState, effects: Sequence[Effect]) -> None:
        await self._dispatcher.offer(state, [effect for effect in effects if isinstance(effect, OfferChunk)])
        await self._watch_keys(effects)
        for effect in effects:
            if isinstance(effect, CountArrays):
                await self._count(state, effect)
            elif isinstance(effect, ReduceKey):
                await self._reduce(state, effect)
            elif isinstance(effect, LookAgain):
                self._dispatcher.look_again(state, effect.run_id)
            elif isinstance(effect, TakeOver) and effect.run_id in state.runs:
                self._takeovers.start(state.runs[effect.run_id])
            elif isinstance(effect, Halt):
                await self._halt(effect)
            elif isinstance(effect, Pause):
                await self._pause(effect)

    async def _watch_keys(self, effects: Sequence[Effect]) -> None:
        """Watch what a turn begins to wait for, and let go of the rest. The last effect on a key counts."""
        wanted = {
            (each.run_id, each.session_id, each.key): isinstance(each, Watch)
            for each in effects
            if isinstance(each, Watch | Unwatch)
        }
        await self.watcher.watch_all(key for key, is_wanted in wanted.items() if is_wanted)
        await self.watcher.unwatch_all(key for key, is_wanted in wanted.items() if not is_wanted)

    async def _count(self, state: PartitionState, effect: CountArrays) -> None:
        run = state.runs.get(effect.run_id)
        task = run.task(effect.group, effect.task) if run else None
        if run is None or task is None or task.state is not TaskState.READY:
            return
        count, error = await self._counted(run, task)
        place = {"run_id": run.run_id, "group": effect.group, "task": effect.task}
        message = ArrayCounted(**place, count=count, error=error, admission=run.admission)
        await self._resources.log.publish([self._on_groups(run.session_id, message)])

    async def _reduce(self, state: PartitionState, effect: ReduceKey) -> None:
        run = state.runs.get(effect.run_id)
        if run is not None and effect in pending_reductions(run):
            reduction = await self._reduced(run, effect.key)
            message = reduction.model_copy(update={"admission": run.admission})
            await self._resources.log.publish([self._on_groups(run.session_id, message)])

    async def _reduced(self, run: Run, key: str) -> KeyReduced:
        """Raises ValueGone where what is gone may yet be restored."""
        try:
            return await reduced(run, key, self._resources.store, self._rules)
        except ValueGone as gone:
            if not await self._life.is_restored():
                raise
            return KeyReduced(run_id=run.run_id, key=key, error=str(gone), writers=run.shared[key].writers)

    async def _counted(self, run: Run, task: Task) -> tuple[int, str | None]:
        """The members of a large expansion, or why it is none. Raises ValueGone where it may yet be restored."""
        try:
            return await self._offers.count(run, task), None
        except ExpansionError as error:
            return 0, str(error)
        except ValueGone as gone:
            if not await self._life.is_restored():
                raise
            return 0, str(gone)

    async def _pause(self, effect: Pause) -> None:
        """As with a halt. It holds for as long as there may be offers of the run."""
        flag = self._names.pause_flag(effect.session_id, effect.run_id)
        if effect.paused:
            ttl = max(0.0, effect.deadline - self._resources.clock.now()) + STOP_FLAG_SECONDS
            await self._resources.store.put([Write(flag, b"1", ttl)])
        else:
            await self._resources.store.delete([flag])
        message = (b"+" if effect.paused else b"-") + effect.run_id.encode()
        await self._resources.notifier.publish([(self._names.pause_channel, message)])

    async def _halt(self, effect: Halt) -> None:
        """The flag is the data; the message makes it quick."""
        subject = halt_subject(effect.run_id, effect.admission, effect.group)
        flag = self._names.stop_flag(effect.session_id, subject)
        await self._resources.store.put([Write(flag, effect.reason.encode(), STOP_FLAG_SECONDS)])
        await self._resources.notifier.publish([(self._names.halt_channel, subject.encode())])

    async def _values_found(self, found: Sequence[OutsideKey]) -> None:
        """Values from outside become records, so that they are the same for ever in their runs."""
        records = [self._on_groups(each.session_id, await self._found_message(each)) for each in found]
        await self._resources.log.publish(records)
        await self.watcher.unwatch_all((each.run_id, each.session_id, each.key) for each in found)

    async def _found_message(self, found: OutsideKey) -> ValueFound:
        value = found.value
        if value.error is not None:
            return ValueFound(run_id=found.run_id, key=found.key, error=value.error)
        data = orjson.dumps(value.data)
        if len(data) > VALUE_BYTES:
            value = await self._set_aside(found.run_id, found.session_id, found.key, value.data, data)
        return ValueFound(run_id=found.run_id, key=found.key, value=value.data, is_reference=value.is_reference)

    async def _set_aside(self, run_id: str, session_id: str, key: str, value: Json, data: bytes) -> PublicValue:
        name, manifest = whole(self._names, session_id, run_id, key, value, data)
        await self._resources.store.put([Write(name, manifest, 2 * self._rules.result_ttl)])
        count = reference_count(value)
        return PublicValue(reference_document(session_id, key, run_id, count, len(data)), is_reference=True)

    # --- taking over ---------------------------------------------------------------------------------

    def on_rebuilt(self, state: PartitionState, open_from: int) -> None:
        drop_ended(state, open_from)

    async def on_takeover(self, state: PartitionState) -> None:
        """What a new owner has to start: watches, counts, stops. Offers follow at the next sweep."""
        self._dispatcher.took_over(state)
        for run in list(state.runs.values()):
            await self.watcher.watch_all((run.run_id, run.session_id, key) for key in run.watched)
            if is_known(run):
                self._takeovers.start(run)
            for place in _uncounted(run):
                await self._count(state, place)
            for reduction in list(pending_reductions(run)):
                await self._reduce(state, reduction)
            if run.paused:
                await self._pause(Pause(run.run_id, run.session_id, True, run.deadline))
            if run.stopped:
                await self._halt(Halt(run.run_id, run.session_id, run.stopped, admission=run.admission))
            for group in run.groups.values():
                if group.timed_out:
                    halt = Halt(run.run_id, run.session_id, "timed_out", group.name, run.admission)
                    await self._halt(halt)

    async def on_release(self, state: PartitionState) -> None:
        await self._takeovers.stop(list(state.runs))
        for run in state.runs.values():
            await self.watcher.unwatch_all((run.run_id, run.session_id, key) for key in run.watched)


def _run_of(state: PartitionState, message: Message) -> Run | None:
    return state.runs.get(getattr(message, "run_id", ""))


def _ids(state: PartitionState, message: Message) -> dict[str, str]:
    run = _run_of(state, message)
    return ids_of(message, run.traceparent if run is not None else None)


def _opened(record: Incoming) -> str | None:
    """The run that a record opens; told from the header's bytes, since nearly every record is of another type."""
    end = record.value.find(b"\n")
    if record.value.find(OPENS, 0, end if end >= 0 else len(record.value)) < 0:
        return None
    try:
        message = GROUPS.decode(record.value).message
    except Undecodable:
        return None
    return message.run_id if isinstance(message, OpenRun) else None


def _uncounted(run: Run) -> list[CountArrays]:
    return [
        CountArrays(run.run_id, group.name, task.name)
        for group in run.groups.values()
        for task in group.tasks.values()
        if task.state is TaskState.READY
    ]
