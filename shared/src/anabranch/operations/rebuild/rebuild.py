"""Writes the values, tombstones and views that the log implies back to the store, for a run, a session or all.

Results come first, so that no finished work runs again. Values that the store already has are not changed. Data
that retention removed from the log is reported as gone. The services may run meanwhile, and need not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from anabranch.core.errors import ValueGone
from anabranch.core.names import Names, session_key
from anabranch.core.policies import Fold
from anabranch.core.wire.run_record import RunRecord
from anabranch.operations.rebuild.state_fold import (
    ExpectedWrite,
    PublishedOutcome,
    RunSelection,
    public_values,
    read_results,
    refold_events,
    refold_groups,
    refold_runs,
    tombstone_of,
)
from anabranch.ports import Clock, EventLog, HistoryEntry, StateStore, Write
from anabranch.runtime.ownership.effects import AppendHistory
from anabranch.runtime.ownership.log_generation import generation_of
from anabranch.runtime.ownership.replay import generation_noted
from anabranch.sdk.references import resolve
from anabranch_agency.run.turn import DecisionConfig as RunRules
from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.documents import Document, run_key
from anabranch_eventmanager.sinks import ViewWriter
from anabranch_taskgroup.owner.context_store import add_to, writes_of
from anabranch_taskgroup.owner.derived_keys import derived_writes
from anabranch_taskgroup.session.turn import DecisionConfig as GroupRules
from anabranch_taskgroup.session.turn import FoldKey, SpreadKeys

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

BATCH = 200
BATCH_BYTES = 4_000_000


WHAT = ("values", "versions", "tombstones", "views")


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild found and did. `gone` says of which run what, and why."""

    runs: int = 0
    ended: int = 0
    expired: int = 0
    written: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WHAT, 0))
    present: int = 0
    gone: list[dict[str, str]] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)

    def to_document(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "ended": self.ended,
            "expired": self.expired,
            "written": self.written,
            "present": self.present,
            "gone": self.gone,
            "incomplete": self.incomplete,
        }

    def lose(self, run_id: str, what: str, reason: str) -> None:
        self.gone.append({"run_id": run_id, "what": what, "reason": reason})


class Rebuild:
    """One rebuild over the ports."""

    def __init__(self, log: EventLog, store: StateStore, names: Names, clock: Clock, settings: Settings) -> None:
        self._log = log
        self._store = store
        self._names = names
        self._clock = clock
        self._settings = settings
        self._told: dict[str, PublishedOutcome] = {}
        self._submitted: set[str] = set()
        self._public: dict[str, tuple[int, bytes, float]] = {}
        self._changes: dict[str, list[HistoryEntry]] = {}
        self._folds: dict[str, tuple[Fold, FoldKey, float]] = {}
        self._waiting: list[Write] = []
        self._bytes = 0
        self.report = RebuildReport()

    async def do(self, choice: RunSelection) -> RebuildReport:
        """Results, runs, groups, events; in this order.

        Raises:
            ServerUnavailable, StoreRefused: a server is away; a rebuild may be begun again at any time.
        """
        names = self._names
        for number in await self._partitions(names.results, choice.run_id):
            self._told |= await read_results(self._log, names, number, choice, self.report.incomplete)
        for number in await self._partitions(names.runs, choice.run_id):
            await self._rebuild_runs(number, choice)
        await self._bury_from_results()
        self._count_runs()
        for number in await self._partitions(names.groups, self._session(choice)):
            await self._rebuild_groups(number, choice)
        await self._write_public()
        for number in await self._partitions(names.events, choice.run_id):
            await self._rebuild_views(number, choice)
        await self._look_for_gone()
        return self.report

    async def _partitions(self, topic: str, key: str | None) -> Sequence[int]:
        if key is not None:
            return [await self._log.partition_for(topic, key)]
        return range(await self._log.partition_count(topic))

    def _session(self, choice: RunSelection) -> str | None:
        told = self._told.get(choice.run_id or "")
        return choice.session_id or (told.session_id if told is not None else None)

    # --- how long -----------------------------------------------------------------------------------

    def _left(self, run_id: str, otherwise: float) -> float:
        """Seconds that keys of a run still have; of one that has ended by its end, else until `otherwise`."""
        told = self._told.get(run_id)
        if told is not None and told.final is not None:
            otherwise = told.ended_at + self._settings.result_ttl
        return otherwise - self._clock.now()

    def _count_runs(self) -> None:
        ended = [told for told in self._told.values() if told.final is not None]
        self.report.runs, self.report.ended = len(self._told), len(ended)
        self.report.expired = sum(self._left(told.run_id, 0.0) <= 0 for told in ended)

    async def _generation(self, group: str, topic: str, number: int) -> int:
        """Of the log, as the owner of a partition will number it: its commit knows where the store has
        forgotten."""
        standing = (await self._log.group_standing(group, topic)).get(number)
        noted = generation_noted(standing.committed if standing is not None else None)
        return await generation_of(self._log, self._store, self._names, topic, noted)

    # --- runs ---------------------------------------------------------------------------------------

    async def _rebuild_runs(self, number: int, choice: RunSelection) -> None:
        rules = RunRules(self._names, self._settings.result_ttl)
        life = await self._generation(self._names.agency_runs, self._names.runs, number)
        tombstones: dict[str, Write] = {}
        async for wanted in refold_runs(self._log, rules, number, life, choice, self.report.incomplete):
            left = wanted.at + wanted.put.ttl - self._clock.now()
            self._submitted.add(wanted.run_id)
            if left <= 0:
                continue
            write = Write(wanted.put.key, wanted.put.value, left)
            if write.key == self._names.tombstone(wanted.run_id):
                tombstones[wanted.run_id] = write
            else:
                await self._want(write)
        await self._bury(tombstones.values())
        await self._flush()

    async def _bury(self, tombstones: Iterable[Write]) -> None:
        """Write tombstones that are missing, and over those that know of no end the ones that do."""
        for write in tombstones:
            there = await self._store.put_new(write)
            ends = RunRecord.decode(write.value).final is not None
            if there is not None and ends and RunRecord.decode(there).final is None:
                await self._store.put([write])
                there = None
            self._note("tombstones", there)

    async def _bury_from_results(self) -> None:
        """Runs whose request is no longer on the log, but whose end is."""
        for told in self._told.values():
            if told.run_id in self._submitted or told.final is None or self._left(told.run_id, 0.0) <= 0:
                continue
            tombstone = tombstone_of(told)
            if tombstone is None:
                self.report.lose(told.run_id, "its tombstone", "retention took its acceptance and its request")
                continue
            left = self._left(told.run_id, 0.0)
            await self._bury([Write(self._names.tombstone(told.run_id), tombstone.encode(), left)])

    # --- values -------------------------------------------------------------------------------------

    async def _rebuild_groups(self, number: int, choice: RunSelection) -> None:
        settings = self._settings
        rules = GroupRules(
            names=self._names,
            inline_limit=settings.inline_limit,
            result_ttl=settings.result_ttl,
            member_limit=settings.members_limit,
        )
        life = await self._generation(self._names.taskgroup_groups, self._names.groups, number)
        async for wanted in refold_groups(self._log, rules, number, life, choice, self.report.incomplete):
            if isinstance(wanted, SpreadKeys):
                await self._spread(wanted)
            elif isinstance(wanted, FoldKey):
                await self._fold(wanted)
            else:
                await self._value(wanted)
        await self._flush()
        for key, entries in self._changes.items():
            await self._write_history(key, entries)
        self._changes.clear()
        if choice.run_id is None:  # else other runs of the session may have given something, too
            for fold, effect, left in self._folds.values():
                kept, _, *aside = writes_of(fold, effect, left, self._names)
                for write in (kept, *aside):
                    await self._want(write)
        await self._flush()
        self._folds.clear()

    async def _fold(self, effect: FoldKey) -> None:
        """What a run gave to a key with a policy, out of the pages that were written a moment ago."""
        await self._flush()
        left = self._left(effect.run_id, self._clock.now() + effect.ttl)
        if left <= 0:
            return
        name = self._names.fold(effect.session_id, effect.key, effect.policy)
        fold, _, known = self._folds.get(name, (Fold(effect.policy), effect, 0.0))
        try:
            await add_to(fold, effect, self._store, self._names)
        except ValueGone as gone:
            self.report.lose(effect.run_id, f"what it gave to {effect.key!r}", str(gone))
            return
        self._folds[name] = fold, effect, max(left, known)
        _, public, *_ = writes_of(fold, effect, left, self._names)
        self._offer(public.key, effect.version, public.value, left)

    async def _write_history(self, key: str, entries: Sequence[HistoryEntry]) -> None:
        """Each change goes to its place, where it may be already."""
        before = await self._store.history(key, 0)
        for first in range(0, len(entries), BATCH):
            await self._store.put(entries[first : first + BATCH])
        after = await self._store.history(key, 0)
        new = after.dropped - before.dropped
        self.report.written["versions"] += new
        self.report.present += max(0, len(entries) - new)

    async def _value(self, wanted: ExpectedWrite) -> None:
        left = self._left(wanted.run_id, wanted.at + wanted.put.ttl)
        if left <= 0:
            return
        if isinstance(wanted.put, AppendHistory):
            self._changes.setdefault(wanted.put.key, []).append(replace(wanted.put.entry(), ttl=left))
        elif wanted.put.key.startswith(session_key(wanted.put.scope, "")):
            self._offer(wanted.put.key, wanted.version, wanted.put.value, left)
        else:
            await self._want(Write(wanted.put.key, wanted.put.value, left))

    async def _spread(self, effect: SpreadKeys) -> None:
        """Derived keys, out of the pages that were written a moment ago."""
        await self._flush()
        left = self._left(effect.run_id, effect.at + effect.ttl)
        if left <= 0:
            return
        try:
            async for own, public in derived_writes(effect, left, self._store, self._names):
                await self._want(own)
                self._offer(public.key, effect.version, public.value, left)
        except ValueGone as gone:
            self.report.lose(effect.run_id, "derived keys", str(gone))

    def _offer(self, key: str, version: int, value: bytes, left: float) -> None:
        """A public key may have been written by several runs of its session: the latest counts."""
        known = self._public.get(key)
        if known is None or known[0] <= version:
            self._public[key] = (version, value, left)

    async def _write_public(self) -> None:
        for told in self._told.values():
            left = self._left(told.run_id, self._clock.now() + self._settings.result_ttl)
            if left > 0:
                for key, version, value in public_values(told):
                    self._offer(key, version, value, left)
        for key, (_, value, left) in self._public.items():
            await self._want(Write(key, value, left))
        await self._flush()

    async def _want(self, write: Write) -> None:
        self._waiting.append(write)
        self._bytes += len(write.value)
        if len(self._waiting) >= BATCH or self._bytes >= BATCH_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        batch, self._waiting, self._bytes = self._waiting, [], 0
        for there in await asyncio.gather(*(self._store.put_new(write) for write in batch)):
            self._note("values", there)

    def _note(self, what: str, there: bytes | None) -> None:
        if there is None:
            self.report.written[what] += 1
        else:
            self.report.present += 1

    # --- views --------------------------------------------------------------------------------------

    async def _rebuild_views(self, number: int, choice: RunSelection) -> None:
        facts = await refold_events(self._log, self._names, number, choice, self.report.incomplete)
        runs = [each for key, each in facts.items() if key == run_key(each.get("run_id", ""))]
        kept = [run for run in runs if not has_ended(run) or self._view_left(run) > 0]
        views = await self._store.get([self._names.view(run["session_id"], run["run_id"]) for run in kept])
        writer = ViewWriter(self._store, self._names, self._clock, self._settings.result_ttl)
        writer.facts_of = lambda _: facts
        for run, there in zip(kept, views, strict=True):
            self._note("views", there)
            if there is None:
                writer.mark(number, run["run_id"], urgent=True)
        await writer.flush()

    def _view_left(self, run: Document) -> float:
        return float(run["ended_at"]) + self._settings.result_ttl - self._clock.now()

    # --- what cannot be had -------------------------------------------------------------------------

    async def _look_for_gone(self) -> None:
        """Final results whose values are nowhere: their records went with the log's retention."""
        for told in self._told.values():
            if told.final is None or self._left(told.run_id, 0.0) <= 0:
                continue
            try:
                results = await self._resolved(told, told.final["results"])
            except ValueGone as gone:
                self.report.lose(told.run_id, "the results of its final record", str(gone))
                continue
            for key, value in results.items():
                try:
                    await self._resolved(told, value)
                except ValueGone as gone:
                    self.report.lose(told.run_id, f"result {key!r}", str(gone))

    async def _resolved(self, told: PublishedOutcome, value: Any) -> Any:
        return await resolve(self._store, self._names, value, within=told.session_id)
