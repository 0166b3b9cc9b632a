"""Performs the effects that start or stop work: a registry of performers by the type of effect.

A turn's effects, those that `derive` yields at a takeover, and those of a nudge all go through `perform`. Each
performer takes a partition's state and all effects of its types, and may be called again with the same ones: it
reads the state and skips what has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from anabranch.core.errors import AnabranchError, ExpansionError, ServerUnavailable, StoreRefused, ValueGone
from anabranch.core.json_documents import dumps
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ArrayCounted, KeyReduced, Message
from anabranch.ports import Outgoing, Write
from anabranch.runtime.ownership.effects import Effect, Expire
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch_taskgroup.owner.cache_lookup import CacheReader
from anabranch_taskgroup.owner.children import Children
from anabranch_taskgroup.owner.conditions import answer, judge_stored
from anabranch_taskgroup.owner.context_store import reduced
from anabranch_taskgroup.owner.dispatch import Dispatcher
from anabranch_taskgroup.owner.key_watcher import KeyWatcher
from anabranch_taskgroup.owner.loop_items import LoopItemReader, refused_items
from anabranch_taskgroup.owner.offers import Offers
from anabranch_taskgroup.owner.retry_import import RetryImports
from anabranch_taskgroup.owner.wait_rendering import Page, refusal, rendered_pages
from anabranch_taskgroup.session.conditions import Judgement
from anabranch_taskgroup.session.context_merge import pending_reductions
from anabranch_taskgroup.session.event_waits import registrations
from anabranch_taskgroup.session.limits import repetitions
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.store_keys import halt_subject
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import (
    AskChildren,
    CountArrays,
    DecisionConfig,
    Halt,
    ImportOutcomes,
    JudgeConditions,
    LookUpCache,
    OfferChunk,
    Pause,
    ReadItems,
    ReduceKey,
    RegisterWaits,
    RenderWaits,
    ReofferUnclaimed,
    RepeatWishes,
    StartChild,
    StopWork,
    TakeChild,
    Unwatch,
    Watch,
)

STOP_FLAG_SECONDS = 3_600.0
"""Time to live of the flag of a stop. The flag of a pause has it in addition to the time until the deadline."""

Performer = Callable[[PartitionState, Sequence[Any]], Awaitable[None]]


class Performers:
    """The performers of one process. `watcher` and `imports` do the work of the effects on keys and imports."""

    def __init__(
        self,
        resources: Resources,
        config: DecisionConfig,
        offers: Offers,
        dispatcher: Dispatcher,
        life: StoreIdentityTracker,
        watcher: KeyWatcher,
        imports: RetryImports,
    ) -> None:
        self._resources = resources
        self._config = config
        self._names = config.names
        self._offers = offers
        self._dispatcher = dispatcher
        self._life = life
        self._watcher = watcher
        self._imports = imports
        children = Children(resources, config.names, life)
        self._cache = CacheReader(resources.store, config.names, offers, dispatcher.version_of)
        self._loop_items = LoopItemReader(resources.store, config.names)
        self._performers: dict[type[Effect], Performer] = {
            OfferChunk: self._offer,
            ReofferUnclaimed: self._reoffer_unclaimed,
            Watch: self._watch,
            Unwatch: self._watch,
            CountArrays: self._count_arrays,
            LookUpCache: self._look_up_cache,
            RenderWaits: self._render_waits,
            RegisterWaits: self._register_waits,
            RepeatWishes: self._repeat_wishes,
            JudgeConditions: self._judge_conditions,
            ReadItems: self._read_items,
            ReduceKey: self._reduce_keys,
            ImportOutcomes: self._import_outcomes,
            StartChild: children.start,
            AskChildren: children.ask,
            TakeChild: children.take,
            Halt: self._halt,
            Pause: self._pause,
            StopWork: self._stop_work,
        }
        self._order = tuple(dict.fromkeys(self._performers.values()))

    async def perform(self, state: PartitionState, effects: Sequence[Effect]) -> None:
        """Perform the effects, those of one performer together and in their order.

        Raises:
            ServerUnavailable: the log or the store is not available: perform the effects again.
            ValueGone: a value is missing in a store that may restore it: perform the effects again.
        """
        found: dict[Performer, list[Effect]] = {}
        expiring: list[Expire] = []
        for effect in effects:
            performer = self._performers.get(type(effect))
            if performer is not None:
                found.setdefault(performer, []).append(effect)
            elif isinstance(effect, Expire):
                expiring.append(effect)
        if not expiring:
            await self._start(state, found)
            return
        # Independent of each other: the keys that expire are those of runs that have ended.
        await asyncio.gather(self._start(state, found), *(self._expire(each) for each in expiring))

    async def _start(self, state: PartitionState, found: Mapping[Performer, Sequence[Effect]]) -> None:
        performers = found if len(found) < 2 else [each for each in self._order if each in found]
        for performer in performers:
            await performer(state, found[performer])

    async def _expire(self, effect: Expire) -> None:
        await self._resources.store.expire(effect.keys, effect.ttl)

    # --- offers, watches, imports --------------------------------------------------------------------

    async def _offer(self, state: PartitionState, effects: Sequence[OfferChunk]) -> None:
        await self._dispatcher.offer(state, effects)

    async def _reoffer_unclaimed(self, state: PartitionState, effects: Sequence[ReofferUnclaimed]) -> None:
        self._dispatcher.reoffer_unclaimed(state, {effect.run_id for effect in effects})

    async def _watch(self, state: PartitionState, effects: Sequence[Watch | Unwatch]) -> None:
        """Watch or unwatch keys. The last effect on a key counts."""
        # Effects of several turns are performed together, so a key may be watched and unwatched in one call.
        wanted = {(each.run_id, each.session_id, each.key): isinstance(each, Watch) for each in effects}
        await self._watcher.watch_all(key for key, is_wanted in wanted.items() if is_wanted)
        await self._watcher.unwatch_all(key for key, is_wanted in wanted.items() if not is_wanted)

    async def _import_outcomes(self, state: PartitionState, effects: Sequence[ImportOutcomes]) -> None:
        for effect in effects:
            if (run := state.runs.get(effect.run_id)) is not None:
                self._imports.start(run)

    # --- reads of the store whose results become records ---------------------------------------------

    async def _count_arrays(self, state: PartitionState, effects: Sequence[CountArrays]) -> None:
        for effect in effects:
            run = state.runs.get(effect.run_id)
            task = run.task(effect.group, effect.task) if run else None
            if run is not None and task is not None and task.state is TaskState.READY:
                count, error = await self._counted(run, task)
                message = ArrayCounted(
                    run_id=run.run_id,
                    group=effect.group,
                    task=effect.task,
                    count=count,
                    error=error,
                    iteration=task.iteration,
                    admission=run.admission,
                )
                await self._publish(run, message)

    async def _look_up_cache(self, state: PartitionState, effects: Sequence[LookUpCache]) -> None:
        for effect in effects:
            run = state.runs.get(effect.run_id)
            task = run.task(effect.group, effect.task) if run else None
            chunk = task.looking.get(effect.chunk) if task is not None else None
            if run is None or task is None or chunk is None:
                continue
            try:
                message, segments = await self._cache.look_up(run, task, chunk)
            except (ServerUnavailable, StoreRefused):
                raise
            except AnabranchError as error:
                if isinstance(error, ValueGone) and not await self._life.is_restored():
                    raise
                message, segments = self._cache.without(run, task, chunk, error)
            await self._publish(run, message, segments)

    async def _counted(self, run: Run, task: Task) -> tuple[int, str | None]:
        """The number of members, or the reason why the arrays cannot be expanded. Raises ValueGone while the store
        may restore them."""
        try:
            return await self._offers.count(run, task), None
        except ExpansionError as error:
            return 0, str(error)
        except ValueGone as gone:
            if not await self._life.is_restored():
                raise
            return 0, str(gone)

    async def _render_waits(self, state: PartitionState, effects: Sequence[RenderWaits]) -> None:
        for effect in effects:
            run = state.runs.get(effect.run_id)
            task = run.task(effect.group, effect.task) if run else None
            if run is not None and task is not None and not task.is_over:
                for message, segments in await self._rendered(run, task):
                    await self._publish(run, message, segments)

    async def _rendered(self, run: Run, task: Task) -> Sequence[Page]:
        """Raises ValueGone while the store may restore a value that is missing."""
        try:
            return await rendered_pages(self._resources.store, self._names, run, task)
        except ValueGone as gone:
            if not await self._life.is_restored():
                raise
            return [refusal(run, task, str(gone))]

    async def _register_waits(self, state: PartitionState, effects: Sequence[RegisterWaits]) -> None:
        """Register members that wait for events, with those of the state that still do."""
        records = []
        for effect in effects:
            run = state.runs.get(effect.run_id)
            task = run.task(effect.group, effect.task) if run else None
            if run is not None and task is not None and not task.is_over:
                for message in registrations(run, task, effect.start, effect.stop):
                    records.append(Outgoing(self._names.runs, message.run_id, encode(message)))
        await self._resources.log.publish(records)

    async def _repeat_wishes(self, state: PartitionState, effects: Sequence[RepeatWishes]) -> None:
        records = []
        for effect in effects:
            run = state.runs.get(effect.run_id)
            task = run.task(effect.group, effect.task) if run else None
            if run is not None and task is not None and not task.is_over:
                for message in repetitions(run, task):
                    records.append(Outgoing(self._names.runs, message.run_id, encode(message)))
        await self._resources.log.publish(records)

    async def _judge_conditions(self, state: PartitionState, effects: Sequence[JudgeConditions]) -> None:
        for effect in effects:
            run = state.runs.get(effect.run_id)
            task = run.task(effect.group, effect.task) if run else None
            if run is not None and task is not None and task.judging == effect.purpose and not task.is_over:
                found = await self._judged(run, task, effect.purpose)
                await self._publish(run, answer(run, task, effect.purpose, found))

    async def _judged(self, run: Run, task: Task, purpose: str) -> Judgement:
        """Raises ValueGone while the store may restore a value that is missing."""
        try:
            return await judge_stored(self._resources.store, self._names, run, task, purpose)
        except ValueGone as gone:
            if not await self._life.is_restored():
                raise
            return Judgement(-1, error=str(gone))

    async def _read_items(self, state: PartitionState, effects: Sequence[ReadItems]) -> None:
        for effect in effects:
            run = state.runs.get(effect.run_id)
            task = run.task(effect.group, effect.task) if run else None
            if run is None or task is None or task.is_over:
                continue
            try:
                message = await self._loop_items.read(run, task)
            except ValueGone as gone:
                if not await self._life.is_restored():
                    raise
                message = refused_items(run, task, str(gone))
            if message is not None:
                await self._publish(run, message)

    async def _reduce_keys(self, state: PartitionState, effects: Sequence[ReduceKey]) -> None:
        for effect in effects:
            run = state.runs.get(effect.run_id)
            if run is not None and effect in pending_reductions(run):
                message = await self._reduced(run, effect.key)
                await self._publish(run, message.model_copy(update={"admission": run.admission}))

    async def _reduced(self, run: Run, key: str) -> KeyReduced:
        """Raises ValueGone while the store may restore a contribution that is missing."""
        try:
            return await reduced(run, key, self._resources.store, self._config)
        except ValueGone as gone:
            if not await self._life.is_restored():
                raise
            return KeyReduced(run_id=run.run_id, key=key, error=str(gone), writers=run.shared[key].writers)

    async def _publish(self, run: Run, message: Message, segments: Sequence[bytes] = ()) -> None:
        record = Outgoing(self._names.groups, run.session_id, encode(message, segments))
        await self._resources.log.publish([record])

    # --- flags for the workers -----------------------------------------------------------------------

    async def _halt(self, state: PartitionState, effects: Sequence[Halt]) -> None:
        """Set the flag of each stop, then notify the workers. The message only makes a stop quick: a worker
        that misses it reads the flag with its next heartbeat."""
        for effect in effects:
            subject = halt_subject(effect.run_id, effect.admission, effect.group, effect.task, effect.iteration)
            flag = self._names.stop_flag(effect.session_id, subject)
            await self._resources.store.put([Write(flag, effect.reason.encode(), STOP_FLAG_SECONDS)])
            await self._resources.notifier.publish([(self._names.halt_channel, subject.encode())])

    async def _stop_work(self, state: PartitionState, effects: Sequence[StopWork]) -> None:
        """Tell workers which work to stop. A message may be lost: the worker asks again."""
        for effect in effects:
            answer = dumps({"worker": effect.worker, "kind": effect.kind, "handles": effect.handles})
            await self._resources.notifier.publish([(self._names.work_channel, answer)])

    async def _pause(self, state: PartitionState, effects: Sequence[Pause]) -> None:
        """Set or delete the flag of each pause, then notify the workers. The flag lasts as long as there may be
        offers of the run."""
        for effect in effects:
            flag = self._names.pause_flag(effect.session_id, effect.run_id)
            if effect.paused:
                ttl = max(0.0, effect.deadline - self._resources.clock.now()) + STOP_FLAG_SECONDS
                await self._resources.store.put([Write(flag, b"1", ttl)])
            else:
                await self._resources.store.delete([flag])
            message = (b"+" if effect.paused else b"-") + effect.run_id.encode()
            await self._resources.notifier.publish([(self._names.pause_channel, message)])
