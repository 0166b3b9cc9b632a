"""Writes the values, tombstones and views that the log implies back to the store, for a run, a session or all
runs.

Results and tombstones are written first, so that no finished work runs again. Values that the store already has
are not changed. Data that retention removed from the log is reported as gone. Works with and without running
services.
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
from anabranch.operations.rebuild.replay import (
    ExpectedWrite,
    PublishedOutcome,
    RunSelection,
    project_events,
    public_values,
    read_results,
    replay_groups,
    replay_runs,
    tombstone_of,
)
from anabranch.ports import Clock, EventLog, HistoryEntry, StateStore, Write
from anabranch.runtime.ownership.effects import AppendHistory
from anabranch.runtime.ownership.log_generation import generation_of
from anabranch.runtime.ownership.replay import committed_generation
from anabranch.sdk.references import resolve
from anabranch_agency.run.turn import DecisionConfig as RunConfig
from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.documents import Document, run_key
from anabranch_eventmanager.view_writer import ViewWriter
from anabranch_taskgroup.owner.context_store import add_to, writes_of
from anabranch_taskgroup.owner.derived_keys import derived_writes
from anabranch_taskgroup.session.turn import DecisionConfig as SessionConfig
from anabranch_taskgroup.session.turn import FoldKey, WriteDerivedKeys

if TYPE_CHECKING:
    from anabranch.runtime.process.settings import Settings

BATCH = 200
BATCH_BYTES = 4_000_000


WHAT = ("values", "versions", "tombstones", "views")


@dataclass(slots=True)
class RebuildReport:
    """Result of a rebuild.

    Attributes:
        runs, ended, expired: runs on the results topic; of these, ended ones and ones past their retention.
        written: number of written entries, by kind (`WHAT`).
        present: number of entries that the store already had.
        gone: values that retention removed from the log: run id, what, reason.
        incomplete: partitions that could not be read to their end.
    """

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

    def add_gone(self, run_id: str, what: str, reason: str) -> None:
        self.gone.append({"run_id": run_id, "what": what, "reason": reason})


class Rebuild:
    """One rebuild. Use an instance once."""

    def __init__(self, log: EventLog, store: StateStore, names: Names, clock: Clock, settings: Settings) -> None:
        self._log = log
        self._store = store
        self._names = names
        self._clock = clock
        self._settings = settings
        self._outcomes: dict[str, PublishedOutcome] = {}
        self._submitted: set[str] = set()
        self._public: dict[str, tuple[int, bytes, float]] = {}
        self._history: dict[str, list[HistoryEntry]] = {}
        self._folds: dict[str, tuple[Fold, FoldKey, float]] = {}
        self._pending: list[Write] = []
        self._pending_bytes = 0
        self.report = RebuildReport()

    async def run(self, selection: RunSelection) -> RebuildReport:
        """Rebuild the store from `results`, `runs`, `groups` and `events`, in this order.

        Raises:
            ServerUnavailable, StoreRefused: a server is unreachable or refuses a write. A rebuild may be started
                again at any time.
        """
        names = self._names
        for number in await self._partitions(names.results, selection.run_id):
            self._outcomes |= await read_results(self._log, names, number, selection, self.report.incomplete)
        for number in await self._partitions(names.runs, selection.run_id):
            await self._rebuild_runs(number, selection)
        await self._write_tombstones_from_results()
        self._count_runs()
        for number in await self._partitions(names.groups, self._session(selection)):
            await self._rebuild_groups(number, selection)
        # After `results` and `groups`, which both have values of public keys: the latest version counts.
        await self._write_public()
        for number in await self._partitions(names.events, selection.run_id):
            await self._rebuild_views(number, selection)
        await self._report_missing_results()
        return self.report

    async def _partitions(self, topic: str, key: str | None) -> Sequence[int]:
        if key is not None:
            return [await self._log.partition_for(topic, key)]
        return range(await self._log.partition_count(topic))

    def _session(self, selection: RunSelection) -> str | None:
        outcome = self._outcomes.get(selection.run_id or "")
        return selection.session_id or (outcome.session_id if outcome is not None else None)

    # --- time to live -------------------------------------------------------------------------------

    def _ttl_left(self, run_id: str, open_until: float) -> float:
        """Remaining time to live of a run's keys, in seconds: `result_ttl` from the end of an ended run, else
        until `open_until`. Not positive if they have expired."""
        outcome = self._outcomes.get(run_id)
        if outcome is not None and outcome.final is not None:
            open_until = outcome.ended_at + self._settings.result_ttl
        return open_until - self._clock.now()

    def _count_runs(self) -> None:
        ended = [outcome for outcome in self._outcomes.values() if outcome.final is not None]
        self.report.runs, self.report.ended = len(self._outcomes), len(ended)
        self.report.expired = sum(self._ttl_left(outcome.run_id, 0.0) <= 0 for outcome in ended)

    async def _generation(self, group: str, topic: str, number: int) -> int:
        """Generation of the log, as the partition's owner counts it. The commit's metadata has it if the store has
        lost it."""
        standing = (await self._log.group_standing(group, topic)).get(number)
        noted = committed_generation(standing.committed if standing is not None else None)
        return await generation_of(self._log, self._store, self._names, topic, noted)

    # --- runs ---------------------------------------------------------------------------------------

    async def _rebuild_runs(self, number: int, selection: RunSelection) -> None:
        config = RunConfig(self._names, self._settings.result_ttl)
        generation = await self._generation(self._names.agency_runs, self._names.runs, number)
        tombstones: dict[str, Write] = {}
        async for expected in replay_runs(
            self._log, config, number, generation, selection, self.report.incomplete
        ):
            left = expected.at + expected.put.ttl - self._clock.now()
            self._submitted.add(expected.run_id)
            if left <= 0:
                continue
            write = Write(expected.put.key, expected.put.value, left)
            if write.key == self._names.tombstone(expected.run_id):
                tombstones[expected.run_id] = write
            else:
                await self._enqueue(write)
        await self._write_tombstones(tombstones.values())
        await self._flush()

    async def _write_tombstones(self, tombstones: Iterable[Write]) -> None:
        """Write missing tombstones, and replace stored ones without a final record by ones with it."""
        for write in tombstones:
            stored = await self._store.put_new(write)
            has_final = RunRecord.decode(write.value).final is not None
            if stored is not None and has_final and RunRecord.decode(stored).final is None:
                await self._store.put([write])
                stored = None
            self._count("tombstones", stored)

    async def _write_tombstones_from_results(self) -> None:
        """Write tombstones of ended runs whose request is no longer on the log, from their published records."""
        for outcome in self._outcomes.values():
            left = self._ttl_left(outcome.run_id, 0.0)
            if outcome.run_id in self._submitted or outcome.final is None or left <= 0:
                continue
            tombstone = tombstone_of(outcome)
            if tombstone is None:
                reason = "retention removed its acceptance and its request from the log"
                self.report.add_gone(outcome.run_id, "the tombstone", reason)
                continue
            await self._write_tombstones([Write(self._names.tombstone(outcome.run_id), tombstone.encode(), left)])

    # --- values -------------------------------------------------------------------------------------

    async def _rebuild_groups(self, number: int, selection: RunSelection) -> None:
        settings = self._settings
        config = SessionConfig(
            names=self._names,
            inline_limit=settings.inline_limit,
            result_ttl=settings.result_ttl,
            member_limit=settings.members_limit,
        )
        generation = await self._generation(self._names.taskgroup_groups, self._names.groups, number)
        async for expected in replay_groups(
            self._log, config, number, generation, selection, self.report.incomplete
        ):
            if isinstance(expected, WriteDerivedKeys):
                await self._derive_keys(expected)
            elif isinstance(expected, FoldKey):
                await self._merge_key(expected)
            else:
                await self._add_value(expected)
        await self._flush()
        for key, entries in self._history.items():
            await self._write_history(key, entries)
        self._history.clear()
        # The merge of one run is partial: other runs of the session may have contributed to the key.
        if selection.run_id is None:
            for fold, effect, left in self._folds.values():
                # Without the public value, of which `_write_public` writes the latest version.
                document, _, *manifest = writes_of(fold, effect, left, self._names)
                for write in (document, *manifest):
                    await self._enqueue(write)
        await self._flush()
        self._folds.clear()

    async def _merge_key(self, effect: FoldKey) -> None:
        """Merge what a run gave to a key with a policy. Reads the values from pages, so these are written
        first."""
        await self._flush()
        left = self._ttl_left(effect.run_id, self._clock.now() + effect.ttl)
        if left <= 0:
            return
        name = self._names.fold(effect.session_id, effect.key, effect.policy)
        fold, _, known = self._folds.get(name, (Fold(effect.policy), effect, 0.0))
        try:
            await add_to(fold, effect, self._store, self._names)
        except ValueGone as gone:
            self.report.add_gone(effect.run_id, f"the values that it gave to {effect.key!r}", str(gone))
            return
        self._folds[name] = fold, effect, max(left, known)
        _, public, *_ = writes_of(fold, effect, left, self._names)
        self._keep_latest(public.key, effect.version, public.value, left)

    async def _write_history(self, key: str, entries: Sequence[HistoryEntry]) -> None:
        """Append a session's changes; the store drops those that it already has."""
        # Read without entries, `dropped` counts all entries that the history ever had.
        before = await self._store.history(key, 0)
        for first in range(0, len(entries), BATCH):
            await self._store.put(entries[first : first + BATCH])
        after = await self._store.history(key, 0)
        new = after.dropped - before.dropped
        self.report.written["versions"] += new
        self.report.present += max(0, len(entries) - new)

    async def _add_value(self, expected: ExpectedWrite) -> None:
        put = expected.put
        left = self._ttl_left(expected.run_id, expected.at + put.ttl)
        if left <= 0:
            return
        if isinstance(put, AppendHistory):
            self._history.setdefault(put.key, []).append(replace(put.entry(), ttl=left))
        elif put.key.startswith(session_key(put.scope, "")):
            self._keep_latest(put.key, expected.version, put.value, left)
        else:
            await self._enqueue(Write(put.key, put.value, left))

    async def _derive_keys(self, effect: WriteDerivedKeys) -> None:
        """Write derived keys. Their values are read from pages, so these are written first."""
        await self._flush()
        left = self._ttl_left(effect.run_id, effect.at + effect.ttl)
        if left <= 0:
            return
        try:
            async for own, public in derived_writes(effect, left, self._store, self._names):
                await self._enqueue(own)
                self._keep_latest(public.key, effect.version, public.value, left)
        except ValueGone as gone:
            self.report.add_gone(effect.run_id, "derived keys", str(gone))

    def _keep_latest(self, key: str, version: int, value: bytes, left: float) -> None:
        """Keep the latest value of a public key, which several runs of a session may have written."""
        known = self._public.get(key)
        if known is None or known[0] <= version:
            self._public[key] = (version, value, left)

    async def _write_public(self) -> None:
        for outcome in self._outcomes.values():
            left = self._ttl_left(outcome.run_id, self._clock.now() + self._settings.result_ttl)
            if left > 0:
                for key, version, value in public_values(outcome):
                    self._keep_latest(key, version, value, left)
        for key, (_, value, left) in self._public.items():
            await self._enqueue(Write(key, value, left))
        await self._flush()

    async def _enqueue(self, write: Write) -> None:
        self._pending.append(write)
        self._pending_bytes += len(write.value)
        if len(self._pending) >= BATCH or self._pending_bytes >= BATCH_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        batch, self._pending, self._pending_bytes = self._pending, [], 0
        # In one iteration of the event loop, so that the calls share round trips.
        for stored in await asyncio.gather(*(self._store.put_new(write) for write in batch)):
            self._count("values", stored)

    def _count(self, what: str, stored: bytes | None) -> None:
        if stored is None:
            self.report.written[what] += 1
        else:
            self.report.present += 1

    # --- views --------------------------------------------------------------------------------------

    async def _rebuild_views(self, number: int, selection: RunSelection) -> None:
        documents = await project_events(self._log, self._names, number, selection, self.report.incomplete)
        # The documents of groups and tasks have no run id, so their keys differ.
        runs = [each for key, each in documents.items() if key == run_key(each.get("run_id", ""))]
        unexpired = [run for run in runs if not has_ended(run) or self._view_ttl_left(run) > 0]
        views = await self._store.get([self._names.view(run["session_id"], run["run_id"]) for run in unexpired])
        writer = ViewWriter(self._store, self._names, self._clock, self._settings.result_ttl)
        writer.documents_of = lambda _: documents
        for run, stored in zip(unexpired, views, strict=True):
            self._count("views", stored)
            if stored is None:
                writer.mark_changed(number, run["run_id"], urgent=True)
        await writer.flush()

    def _view_ttl_left(self, run: Document) -> float:
        return float(run["ended_at"]) + self._settings.result_ttl - self._clock.now()

    # --- data that retention removed ----------------------------------------------------------------

    async def _report_missing_results(self) -> None:
        """Report results of final records whose pages are neither in the store nor on the log."""
        for outcome in self._outcomes.values():
            if outcome.final is None or self._ttl_left(outcome.run_id, 0.0) <= 0:
                continue
            try:
                results = await self._resolved(outcome, outcome.final["results"])
            except ValueGone as gone:
                self.report.add_gone(outcome.run_id, "the results of the final record", str(gone))
                continue
            for key, value in results.items():
                try:
                    await self._resolved(outcome, value)
                except ValueGone as gone:
                    self.report.add_gone(outcome.run_id, f"result {key!r}", str(gone))

    async def _resolved(self, outcome: PublishedOutcome, value: Any) -> Any:
        return await resolve(self._store, self._names, value, within=outcome.session_id)
