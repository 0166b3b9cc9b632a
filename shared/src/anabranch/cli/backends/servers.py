"""Implements the port of commands over a `Client`, on Kafka and Redis or on an embedded system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from anabranch.cli.backends.backend import (
    ControlOutcome,
    DeadLetterGroups,
    Differences,
    Event,
    FollowedRun,
    SnapshotSource,
)
from anabranch.cli.said import Said
from anabranch.core.errors import Misconfigured
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.definitions import unknown_definition
from anabranch.core.run_filter import EVERY_RUN, RunFilter
from anabranch.core.wire.run_record import RunRecord
from anabranch.core.wire.run_view import RunView
from anabranch.dead_letters.decisions import (
    Action,
    DeadLetterSelection,
    dead_letter_details,
    decide,
    document,
    grouped_with_redrivable,
)
from anabranch.dead_letters.grouping import select, with_ids
from anabranch.dead_letters.reader import read_dead_letters
from anabranch.ports import RunIndex
from anabranch.runtime.reading.contexts import SharedContext, diff, load_context
from anabranch.runtime.reading.run_index import HistoryIndex, ViewIndex
from anabranch.runtime.reading.views import load_view, with_heartbeats
from anabranch.sdk.approvals import Answerable, Decision, DecisionRefused, send_decision
from anabranch.sdk.client import Client, Control
from anabranch.sdk.run_result import RunResult

if TYPE_CHECKING:
    from anabranch.operations.why.examination import Answer
    from anabranch.runtime.process.settings import Settings

KNOWN_SECONDS, POLL_SECONDS = 2.0, 0.1
"""Seconds that a control command waits for its run to be known, and the interval of the lookups."""
NOW_SECONDS = 0.05
"""Seconds to wait for the final record of an ended run if the caller gave no timeout."""

RUNS_PAGE = 500
"""Runs that one search returns."""


class Servers:
    """See the module. The caller opens and closes the client."""

    def __init__(self, client: Client, settings: Settings, description: str | None = None) -> None:
        self._client = client
        self._settings = settings
        self.description = description or f"{settings.brokers}  prefix {settings.prefix}"

    async def submit(self, request: Mapping[str, Any]) -> FollowedRun:
        return await self._client.submit(request)

    async def retry(self, run: str, request_id: str | None, said: Said) -> FollowedRun:
        return await self._client.retry(run, request_id=request_id, by=said.by, reason=said.reason)

    async def fork(self, run: str, body: Mapping[str, Any], said: Said) -> FollowedRun:
        return await self._client.fork(
            run,
            tasks=body.get("from") or (),
            values=body.get("set"),
            request=body.get("request"),
            request_id=body.get("request_id"),
            by=said.by,
            reason=said.reason,
        )

    async def push_definition(self, document: Any) -> Mapping[str, Any]:
        return (await self._client.push_definition(document)).to_document()

    async def definitions(self) -> Sequence[Mapping[str, Any]]:
        return [each.to_document(full=False) for each in await self._client.definitions.all()]

    async def definition(self, reference: str) -> Mapping[str, Any]:
        found = await self._client.definitions.find(DEFAULT_PROJECT, reference)
        if found is None:
            raise unknown_definition(DEFAULT_PROJECT, reference)
        return found.to_document()

    async def put_schedule(self, document: Any, said: Said) -> Mapping[str, Any]:
        return await self._client.schedules.put(document, by=said.by)

    async def schedules(self) -> Sequence[Mapping[str, Any]]:
        return await self._client.schedules.list()

    async def schedule(self, schedule_id: str) -> Mapping[str, Any]:
        return await self._client.schedules.show(schedule_id)

    async def act_on_schedule(
        self, action: str, schedule_id: str, said: Said, fields: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        return await self._client.schedules.act(action, schedule_id, by=said.by, reason=said.reason, **fields)

    async def control(self, action: Control, run: str, said: Said) -> ControlOutcome:
        """Publish a control record for an open run, after waiting for a run that was submitted a moment ago."""
        client = self._client
        run_id, known, final = await self._find_run(run)
        if not known:
            return ControlOutcome(run_id, known=False)
        if final is not None:
            return ControlOutcome(run_id, ended=final)
        await client.control(action, run_id=run_id, by=said.by, reason=said.reason)
        return ControlOutcome(run_id)

    async def signal(self, run: str, name: str, value: Any, signal_id: str | None) -> ControlOutcome:
        run_id, known, final = await self._find_run(run, patience=0.0)
        if final is not None:
            return ControlOutcome(run_id, ended=final)
        # Also for an unknown run: the signal is kept until the run is submitted.
        await self._client.control("signal", run_id=run_id, name=name, value=value, signal_id=signal_id)
        return ControlOutcome(run_id, known=known)

    async def publish(self, event: Mapping[str, Any]) -> str:
        return await self._client.publish(**event)

    async def decide_approval(self, wanted: Answerable) -> Decision:
        run_id, known, final = await self._find_run(wanted.run_id)
        if not known:
            raise no_such_run(wanted.run_id)
        if final is not None:
            raise DecisionRefused("gone", f"run {run_id} has ended: {final}")
        return await send_decision(self._client.links, replace(wanted, run_id=run_id))

    async def _find_run(self, run: str, patience: float = KNOWN_SECONDS) -> tuple[str, bool, str | None]:
        """The run id, whether the run is known (after up to `patience` seconds), and its final status if it has
        ended."""
        client = self._client
        until = client.links.clock.monotonic() + patience
        while True:
            run_id = await client.run_id_of(run)
            names = client.names
            tombstone, lookup = await client.store.get([names.tombstone(run_id), names.run_lookup(run_id)])
            if tombstone is not None:
                return run_id, True, RunRecord.decode(tombstone).final_status
            if lookup is not None or client.links.clock.monotonic() >= until:
                return run_id, lookup is not None, None
            await asyncio.sleep(POLL_SECONDS)

    async def workers(self) -> Sequence[Mapping[str, Any]]:
        return await self._client.workers()

    async def agents(self) -> Sequence[Mapping[str, Any]]:
        return await self._client.agents()

    async def limits(self) -> Sequence[Mapping[str, Any]]:
        from anabranch.operations.limits import listed

        return await listed(self._client, self._settings)

    async def set_breaker(self, agent: str, action: Literal["open", "close"], said: Said) -> None:
        await self._client.set_breaker(agent, action, by=said.by, reason=said.reason)

    async def views(self, limit: int, wanted: RunFilter = EVERY_RUN) -> Sequence[RunView]:
        from anabranch.compose import run_search

        links, history = self._client.links, run_search(self._settings)
        index: RunIndex = ViewIndex(links.store, links.names)
        if history is not None:
            index = HistoryIndex(history, links.store, links.names)
        found: list[RunView] = []
        cursor: str | None = None
        while len(found) < limit:
            page = await index.search(wanted, min(limit - len(found), RUNS_PAGE), cursor)
            found += page.views
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def status(self, run: str) -> RunView:
        client = self._client
        view = await load_view(client.store, client.names, run) or await _minimal_view(client, run)
        return await with_heartbeats(client.store, client.names, view)

    async def result(self, run: str, timeout: float | None) -> RunResult | None:
        handle = await self._client.run(run)
        try:
            await handle.ended(timeout or NOW_SECONDS)
        except TimeoutError:
            return None
        return await handle.result()

    async def events(self, run: str, *, follow: bool) -> AsyncGenerator[Event, None]:
        handle = await self._client.run(run)
        async with aclosing(handle.events(until_now=not follow)) as found:
            async for event in found:
                yield event

    async def context(self, run: str, at: int | None) -> SharedContext:
        return await self._context(await self._session_of(run), at)

    async def differences(self, run: str, a: int, b: int) -> Differences:
        session = await self._session_of(run)
        before, after = [await self._context(session, version) for version in (a, b)]
        return Differences(session, before.at, after.at, diff(before, after))

    async def why(self, run: str, *, heal: bool) -> tuple[Answer, list[str]]:
        from anabranch.operations.why.answer import examined

        answer, _, healed = await examined(self._client, self._settings, run, heal=heal)
        return answer, healed

    async def dead_letter_groups(self, *, run: str | None, signature: str | None, every: bool) -> DeadLetterGroups:
        found = await select(self._client, run=run, signature=signature)
        shown = [dead_letter for dead_letter in found if every or dead_letter.state == "open"]
        return DeadLetterGroups(
            await grouped_with_redrivable(self._client, shown), len(shown), len(found) - len(shown)
        )

    async def dead_letter(self, letter_id: str) -> Mapping[str, Any]:
        [dead_letter] = with_ids(await read_dead_letters(self._client.log, self._client.names), [letter_id])
        return await dead_letter_details(self._client, dead_letter)

    async def decide(self, action: Action, choice: DeadLetterSelection, said: Said) -> Mapping[str, Any]:
        decisions = await decide(self._client, action, choice, by=said.by, reason=said.reason)
        return document(action, decisions)

    def snapshots(self, limit: int) -> SnapshotSource:
        from anabranch.cli.top.snapshot_reader import SnapshotReader

        return SnapshotReader(self._client, limit)

    async def _context(self, session_id: str, at: int | None) -> SharedContext:
        return await load_context(self._client.store, self._client.names, session_id, at)

    async def _session_of(self, run: str) -> str:
        handle = await self._client.run(run)
        if handle.session_id is None:
            raise no_such_run(run)
        return handle.session_id


def no_such_run(run: str) -> Misconfigured:
    """The error for an id without a run."""
    return Misconfigured(run, "there is no run with this run id or request id", "see: anabranch list")


async def _minimal_view(client: Client, run: str) -> RunView:
    """A minimal view of a run just submitted, or of a run whose view has expired."""
    run_id, names = await client.run_id_of(run), client.names
    tombstone, session = await client.store.get([names.tombstone(run_id), names.run_lookup(run_id)])
    if tombstone is not None:
        return RunView.of_record(run_id, RunRecord.decode(tombstone))
    if session is not None:
        return RunView(run_id, None, session.decode())
    raise no_such_run(run)
