"""Appends the outcomes of a run, which are in the store, to the log of its retry: one record for each page.

It runs beside the owner's turns, since there may be gigabytes. `retry_snapshot.usable` decides which outcomes are
imported. The retry starts whatever happens: members whose outcomes cannot be imported run again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import orjson

from anabranch.core.errors import ServerUnavailable, StoreRefused, ValueGone
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import (
    LargeValue,
    MemberFailed,
    MembersTaken,
    Message,
    RunTaken,
    Spans,
    TakenPage,
    TaskOrder,
    TaskTaken,
)
from anabranch.core.wire.results import is_reference
from anabranch.ports import Outgoing
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.reading import values
from anabranch.runtime.reading.public_values import PublicValue
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.runtime.until_available import until_available
from anabranch_taskgroup.owner.key_watcher import OutsideKey
from anabranch_taskgroup.owner.retry_loops import LoopReader
from anabranch_taskgroup.session.retry_snapshot import (
    TaskId,
    TaskOutcome,
    pages_of,
    read_outcome,
    read_outside,
    usable,
)
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.store_keys import stored_key

log = logging.getLogger(__name__)

T = TypeVar("T")
ImportRecord = tuple[Message, Sequence[bytes]]
AppendValues = Callable[[Sequence[OutsideKey]], Awaitable[None]]
"""Appends values from outside the run to its log."""

READ_BATCH = 200
"""Keys in one read of the store."""
BATCH_BYTES = 4_000_000
"""Payload in one call of publish."""
MAX_FAILURES = 100
"""Failures in one record."""
MAX_WARNINGS = 10
RETRY_SECONDS, MAX_RETRY_SECONDS = 0.05, 2.0


class RetryImports:
    """The imports that are under way in one process."""

    def __init__(self, resources: Resources, append_values: AppendValues) -> None:
        self._log = resources.log
        self._store = resources.store
        self._names = resources.names
        self._supervisor = resources.supervisor
        self._append_values = append_values
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, run: Run) -> None:
        """Start the import of a run, unless it is under way or complete."""
        if run.importing_from is not None and run.run_id not in self._tasks:
            task = self._supervisor.spawn(
                self._import(run, run.importing_from), f"import outcomes for {run.run_id}"
            )
            self._tasks[run.run_id] = task
            # Removed at its end, so that a nudge or a takeover can start an import again.
            task.add_done_callback(lambda _: self._tasks.pop(run.run_id, None))

    async def stop(self, run_ids: Sequence[str]) -> None:
        """Stop the imports of runs whose session has a new owner, which starts them again."""
        tasks = [task for run_id in run_ids if (task := self._tasks.get(run_id)) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _import(self, run: Run, before: str) -> None:
        """Import all outcomes, and repeat that until the servers are available. Decisions drop what they read
        twice."""

        async def import_all() -> None:
            warnings = await self._append_or_warn(run, before)
            await self._publish(run.session_id, [(RunTaken(run_id=run.run_id, warnings=warnings), ())])

        what = f"import results of run {before} into run {run.run_id}"
        await until_available(import_all, what, delay=RETRY_SECONDS, max_delay=MAX_RETRY_SECONDS)

    async def _append_or_warn(self, run: Run, before: str) -> tuple[str, ...]:
        try:
            return await self._append_outcomes(run, before)
        except (ServerUnavailable, StoreRefused):
            raise
        except Exception as error:
            # A bug, or a document of another release. If it were raised, the retry would never start.
            log.exception(
                "retry import: cannot import outcomes of run %s into run %s, its members run again",
                before,
                run.run_id,
            )
            kind = type(error).__name__
            return (f"the import from run {before} failed ({kind}): members without an outcome ran again",)

    async def _append_outcomes(self, run: Run, before: str) -> tuple[str, ...]:
        session = run.session_id
        if run.forked_from is not None and (results := await self._results_of_completed(run)) is not None:
            return await self._append_values_of_tasks(run, results)
        # Stored with every outcome: if it is gone, the outcomes have expired as well.
        [stored] = await self._store.get([self._names.outcome(session, before)])
        if stored is None:
            return (f"the outcomes of run {before} have expired: every task ran again",)
        orders = {(g.name, task.name): task.order for g in run.groups.values() for task in g.tasks.values()}
        if run.forked_from is not None:
            orders = {place: order for place, order in orders.items() if place in set(run.taken)}
        found = await self._outcomes(session, before, list(orders))
        complete = {
            place: each
            for place, each in found.items()
            if await self._is_complete(session, before, each, orders[place])
        }
        outside = await self._resolved(session, read_outside(stored, session))
        seen = [OutsideKey(run.run_id, session, key, PublicValue(value)) for key, value in outside.items()]
        await self._append_values(seen)
        taken = usable(orders, complete, outside)
        for place in [place for place in orders if place in taken]:
            await self._append_task(run, before, place, orders[place], complete[place])
        left = [f"{group}/{task}" for group, task in found if (group, task) not in taken]
        return tuple(
            f"results of {name} in run {before} have expired: all of its members ran again"
            for name in left[:MAX_WARNINGS]
        )

    async def _outcomes(self, session: str, before: str, places: Sequence[TaskId]) -> dict[TaskId, TaskOutcome]:
        found: dict[TaskId, TaskOutcome] = {}
        for some in _batches(places, READ_BATCH):
            keys = [self._names.outcome(session, before, group, task) for group, task in some]
            for place, data in zip(some, await self._store.get(keys), strict=True):
                if data is not None:
                    found[place] = read_outcome(data)
        return found

    async def _is_complete(self, session: str, before: str, outcome: TaskOutcome, order: TaskOrder) -> bool:
        """True if each page of an outcome is in the store. Checked before the first one is appended: a task is
        imported as a whole, or not at all."""
        # Fewer keys at a time, because this reads the pages themselves, which are large.
        for some in _batches(list(pages_of(outcome, order)), READ_BATCH // 10):
            keys = [self._names.value_page(session, before, key, page) for key, page in some]
            if None in await self._store.get(keys):
                return False
        return True

    async def _resolved(self, session: str, found: Mapping[str, Value]) -> dict[str, Any]:
        resolved: dict[str, Any] = {}
        for key, value in found.items():
            try:
                resolved[key] = value.data
                if value.is_reference:
                    resolved[key] = await values.resolve(self._store, self._names, value.data, within=session)
            except ValueGone as gone:
                del resolved[key]
                log.warning(
                    "retry import: value from outside the run has expired, its tasks wait for a new one: %s", gone
                )
        return resolved

    # --- forks ---------------------------------------------------------------------------------------

    async def _results_of_completed(self, run: Run) -> Mapping[str, Any] | None:
        """The results of the run that a run is a fork of; None unless it completed."""
        [record] = await load_run_records(self._store, self._names, [run.forked_from or ""])
        if record is None or record.final is None or record.final_status != "completed":
            return None
        results: Any = record.final["results"]
        if is_reference(results, run.session_id):
            results = await values.resolve(self._store, self._names, results, within=run.session_id)
        return dict(results)

    async def _append_values_of_tasks(self, run: Run, results: Mapping[str, Any]) -> tuple[str, ...]:
        """Append the values of the tasks that a fork takes over. A task without a value in that run, such as one
        that was skipped, is decided again."""
        warnings: list[str] = []
        for group, name in run.taken:
            task = run.task(group, name)
            if task is None or not all(key in results for key in task.order.result_keys):
                continue
            message = TaskTaken(run_id=run.run_id, group=group, task=name)
            try:
                segments = [await self._json_of(run, results[key]) for key in task.order.result_keys]
            except ValueGone as gone:
                warnings.append(f"{group}/{name} ran again: {gone}")
                continue
            await self._publish(run.session_id, [(message, segments)])
        return tuple(warnings[:MAX_WARNINGS])

    async def _json_of(self, run: Run, value: Any) -> bytes:
        if is_reference(value, run.session_id):
            value = await values.resolve(self._store, self._names, value, within=run.session_id)
        return orjson.dumps(value)

    # --- one task ------------------------------------------------------------------------------------

    async def _append_task(
        self, run: Run, before: str, place: TaskId, order: TaskOrder, outcome: TaskOutcome
    ) -> None:
        batch: list[ImportRecord] = []
        size = 0
        records = self._records(run, before, place, order, outcome)
        if outcome.loop is not None:
            records = LoopReader(self._store, self._names, run.session_id, before).records(
                run, place, outcome.loop
            )
        async for record in records:
            batch.append(record)
            size += sum(map(len, record[1]))
            if size > BATCH_BYTES:
                await self._publish(run.session_id, batch)
                batch, size = [], 0
        await self._publish(run.session_id, batch)

    async def _records(
        self, run: Run, before: str, place: TaskId, order: TaskOrder, outcome: TaskOutcome
    ) -> AsyncIterator[ImportRecord]:
        about = {"run_id": run.run_id, "group": place[0], "task": place[1]}
        task = {**about, "total": outcome.total, "unseen": tuple(outcome.unseen)}
        for index, key, prefix, sizes, _ in outcome.large:
            for number in range(len(sizes)):
                stored = stored_key(order, key)
                # Pages of large values come before the members that refer to them, as they do from a worker.
                [page] = await self._pages(run.session_id, before, [(stored, f"{prefix}.{number}")])
                yield TakenPage(**about, index=index, key=key, page=number), (page,)
        for spans, items, parts, identifiers in outcome.parts:
            names = orjson.dumps(identifiers) if identifiers is not None else None
            yield _members(task, outcome, spans, items, list(map(orjson.dumps, parts)), names)
        for number, spans, _, items in outcome.pages:
            named = [(stored_key(order, key), str(number)) for key in order.result_keys]
            pages = await self._pages(run.session_id, before, named)
            yield _members(task, outcome, spans, items, pages, _identifiers(outcome, spans))
        for failed in _batches(outcome.failed, MAX_FAILURES):
            yield MembersTaken(**task, completed=(), failed=tuple(MemberFailed(**each) for each in failed)), ()

    async def _pages(self, session: str, before: str, pages: Sequence[tuple[str, str]]) -> list[bytes]:
        keys = [self._names.value_page(session, before, key, page) for key, page in pages]
        found = await self._store.get(keys)
        return [page for page in found if page is not None]

    async def _publish(self, session_id: str, batch: Sequence[ImportRecord]) -> None:
        groups = self._names.groups
        await self._log.publish([Outgoing(groups, session_id, encode(each, payload)) for each, payload in batch])


def _members(
    task: Mapping[str, Any],
    outcome: TaskOutcome,
    spans: Sequence[Sequence[int]],
    items: Sequence[int],
    segments: list[bytes],
    identifiers: bytes | None,
) -> ImportRecord:
    completed: Spans = tuple((start, stop) for start, stop in spans)
    large = tuple(
        LargeValue(index=index, key=key, pages=tuple(sizes), items=None if counts is None else tuple(counts))
        for index, key, _, sizes, counts in outcome.large
        if any(start <= index < stop for start, stop in completed)
    )
    payload = segments if identifiers is None else [*segments, identifiers]
    return MembersTaken(**task, completed=completed, items=tuple(items), large=large), payload


def _identifiers(outcome: TaskOutcome, spans: Sequence[Sequence[int]]) -> bytes | None:
    if not outcome.identifiers:
        return None
    return orjson.dumps([outcome.identifiers[str(index)] for start, stop in spans for index in range(start, stop)])


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
