"""Carries what a run left in the store onto the log, for its retry: pages as they are, a record at a time.

Beside the owner's turns, for it may be much. It decides nothing but what `outcomes.usable` says. Whatever goes
wrong, the retry starts: what could not be taken over runs again.
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
)
from anabranch.ports import Outgoing
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.reading import values
from anabranch.runtime.reading.public_values import PublicValue
from anabranch.runtime.until_available import until_available
from anabranch_taskgroup.owner.key_watcher import OutsideKey
from anabranch_taskgroup.session.retry_snapshot import (
    Place,
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
Carried = tuple[Message, Sequence[bytes]]
ValuesSeen = Callable[[Sequence[OutsideKey]], Awaitable[None]]
"""Makes values from outside records of the session."""

READ = 200
"""Keys that are read at once."""
BATCH_BYTES = 4_000_000
"""Payload that is published at once."""
FAILURES = 100
"""Failures that one record takes along."""
WARNINGS = 10
RETRY_FIRST, RETRY_MAX = 0.05, 2.0


class RetryImports:
    """The takeovers that are under way in one process."""

    def __init__(self, resources: Resources, values_seen: ValuesSeen) -> None:
        self._log = resources.log
        self._store = resources.store
        self._names = resources.names
        self._supervisor = resources.supervisor
        self._values_seen = values_seen
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, run: Run) -> None:
        """Take over what the run before left, unless that is under way."""
        if run.importing_from is not None and run.run_id not in self._tasks:
            task = self._supervisor.spawn(self._take(run, run.importing_from), f"import results for {run.run_id}")
            self._tasks[run.run_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(run.run_id, None))

    async def stop(self, run_ids: Sequence[str]) -> None:
        """Leave it to whoever owns the session next."""
        tasks = [task for run_id in run_ids if (task := self._tasks.get(run_id)) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, run: Run, before: str) -> None:
        """Until the servers let it happen: what was carried twice is dropped by who reads it."""

        async def take() -> None:
            warnings = await self._carry_or_warn(run, before)
            await self._publish(run.session_id, [(RunTaken(run_id=run.run_id, warnings=warnings), ())])

        what = f"import results of run {before} into run {run.run_id}"
        await until_available(take, what, delay=RETRY_FIRST, max_delay=RETRY_MAX)

    async def _carry_or_warn(self, run: Run, before: str) -> tuple[str, ...]:
        try:
            return await self._carry(run, before)
        except (ServerUnavailable, StoreRefused):
            raise
        except Exception as error:
            # A bug, or a document of another version: the run must not wait for ever.
            log.exception("run %s cannot take over from %s", run.run_id, before)
            return (f"taking over from run {before} failed ({type(error).__name__}): what is missing ran again",)

    async def _carry(self, run: Run, before: str) -> tuple[str, ...]:
        session = run.session_id
        [stored] = await self._store.get([self._names.outcome(session, before)])
        if stored is None:
            return (f"what run {before} left is no longer kept: every task ran again",)
        orders = {(g.name, task.name): task.order for g in run.groups.values() for task in g.tasks.values()}
        found = await self._outcomes(session, before, list(orders))
        whole = {
            place: each
            for place, each in found.items()
            if await self._is_whole(session, before, each, orders[place])
        }
        outside = await self._resolved(session, read_outside(stored, session))
        seen = [OutsideKey(run.run_id, session, key, PublicValue(value)) for key, value in outside.items()]
        await self._values_seen(seen)
        taken = usable(orders, whole, outside)
        for place in [place for place in orders if place in taken]:
            await self._carry_task(run, before, place, orders[place], whole[place])
        left = [f"{group}/{task}" for group, task in found if (group, task) not in taken]
        return tuple(
            f"results of {name} in run {before} are no longer kept: all of it ran again"
            for name in left[:WARNINGS]
        )

    async def _outcomes(self, session: str, before: str, places: Sequence[Place]) -> dict[Place, TaskOutcome]:
        found: dict[Place, TaskOutcome] = {}
        for some in _cut(places, READ):
            keys = [self._names.outcome(session, before, group, task) for group, task in some]
            for place, data in zip(some, await self._store.get(keys), strict=True):
                if data is not None:
                    found[place] = read_outcome(data)
        return found

    async def _is_whole(self, session: str, before: str, outcome: TaskOutcome, order: TaskOrder) -> bool:
        """Looked at before the first page is carried: a task is taken over from as it was, or not at all."""
        for some in _cut(list(pages_of(outcome, order)), READ // 10):
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
                log.warning("a value from outside cannot be taken over: %s", gone)
        return resolved

    # --- one task ------------------------------------------------------------------------------------

    async def _carry_task(
        self, run: Run, before: str, place: Place, order: TaskOrder, outcome: TaskOutcome
    ) -> None:
        batch: list[Carried] = []
        size = 0
        async for carried in self._records(run, before, place, order, outcome):
            batch.append(carried)
            size += sum(map(len, carried[1]))
            if size > BATCH_BYTES:
                await self._publish(run.session_id, batch)
                batch, size = [], 0
        await self._publish(run.session_id, batch)

    async def _records(
        self, run: Run, before: str, place: Place, order: TaskOrder, outcome: TaskOutcome
    ) -> AsyncIterator[Carried]:
        about = {"run_id": run.run_id, "group": place[0], "task": place[1]}
        task = {**about, "total": outcome.total, "unseen": tuple(outcome.unseen)}
        for index, key, prefix, sizes, _ in outcome.large:
            for number in range(len(sizes)):
                stored = stored_key(order, key)
                [page] = await self._pages(run.session_id, before, [(stored, f"{prefix}.{number}")])
                yield TakenPage(**about, index=index, key=key, page=number), (page,)
        for spans, items, parts, identifiers in outcome.parts:
            names = orjson.dumps(identifiers) if identifiers is not None else None
            yield _members(task, outcome, spans, items, list(map(orjson.dumps, parts)), names)
        for number, spans, _, items in outcome.pages:
            named = [(stored_key(order, key), str(number)) for key in order.result_keys]
            pages = await self._pages(run.session_id, before, named)
            yield _members(task, outcome, spans, items, pages, _identifiers(outcome, spans))
        for failed in _cut(outcome.failed, FAILURES):
            yield MembersTaken(**task, completed=(), failed=tuple(MemberFailed(**each) for each in failed)), ()

    async def _pages(self, session: str, before: str, pages: Sequence[tuple[str, str]]) -> list[bytes]:
        keys = [self._names.value_page(session, before, key, page) for key, page in pages]
        found = await self._store.get(keys)
        return [page for page in found if page is not None]

    async def _publish(self, session_id: str, batch: Sequence[Carried]) -> None:
        groups = self._names.groups
        await self._log.publish([Outgoing(groups, session_id, encode(each, payload)) for each, payload in batch])


def _members(
    task: Mapping[str, Any],
    outcome: TaskOutcome,
    spans: Sequence[Sequence[int]],
    items: Sequence[int],
    segments: list[bytes],
    identifiers: bytes | None,
) -> Carried:
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


def _cut(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
