"""A system that is reached over Kafka and Redis, or in this process: the port of commands over a `Client`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from anabranch.cli.reach.port import Controlled, Differences, Event, FollowedRun, LetterGroups, Looks
from anabranch.core.errors import Misconfigured
from anabranch.deadletters.choosing import chosen, grouped, named, whole
from anabranch.deadletters.decisions import Action, Choice, decide, document
from anabranch.deadletters.letterbox import read_letters
from anabranch.runtime.contexts import SharedContext, diff, load_context
from anabranch.runtime.views import View, list_views, load_view, with_heartbeats
from anabranch.sdk.client import Client, Control
from anabranch.sdk.run_result import RunResult

if TYPE_CHECKING:
    from anabranch.cli.why_examination import Answer
    from anabranch.runtime.settings import Settings

NOW_SECONDS = 0.05
"""How long the known end of a run is waited for where nobody wants to wait."""


class Servers:
    """See the module. The client is open, and closed by who opened it."""

    def __init__(self, client: Client, settings: Settings, place: str | None = None) -> None:
        self._client = client
        self._settings = settings
        self.place = place or f"{settings.brokers}  prefix {settings.prefix}"

    async def submit(self, request: Mapping[str, Any]) -> FollowedRun:
        return await self._client.submit(request)

    async def retry(self, run: str, request_id: str | None) -> FollowedRun:
        return await self._client.retry(run, request_id=request_id)

    async def control(self, action: Control, run: str) -> Controlled:
        """Publish a control record. That a run has ended is found out by its owner; one that is not known may be
        on its way, so the record is published all the same."""
        client = self._client
        run_id = await client.run_id_of(run)
        found = await client.store.get([client.names.tombstone(run_id), client.names.run_lookup(run_id)])
        await client.control(action, run_id=run_id)
        return Controlled(run_id, any(value is not None for value in found))

    async def views(self, limit: int) -> Sequence[View]:
        return await list_views(self._client.store, self._client.names, limit)

    async def status(self, run: str) -> View:
        client = self._client
        view = await load_view(client.store, client.names, run) or await _without_view(client, run)
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
        from anabranch.cli.why_command import examined

        answer, _, healed = await examined(self._client, self._settings, run, heal=heal)
        return answer, healed

    async def letter_groups(self, *, run: str | None, signature: str | None, every: bool) -> LetterGroups:
        found = await chosen(self._client, run=run, signature=signature)
        shown = [letter for letter in found if every or letter.state == "open"]
        return LetterGroups(grouped(shown), len(shown), len(found) - len(shown))

    async def letter(self, letter_id: str) -> Mapping[str, Any]:
        [letter] = named(await read_letters(self._client.log, self._client.names), [letter_id])
        return whole(letter)

    async def decide(self, action: Action, choice: Choice) -> Mapping[str, Any]:
        return document(action, await decide(self._client, action, choice))

    def looks(self, limit: int) -> Looks:
        from anabranch.cli.top.reading import Reading

        return Reading(self._client, limit)

    async def _context(self, session_id: str, at: int | None) -> SharedContext:
        return await load_context(self._client.store, self._client.names, session_id, at)

    async def _session_of(self, run: str) -> str:
        handle = await self._client.run(run)
        if handle.session_id is None:
            raise no_such_run(run)
        return handle.session_id


def no_such_run(run: str) -> Misconfigured:
    """Nobody knows a run of this id."""
    return Misconfigured(run, "no such run, by run id or by request id", "see: anabranch list")


async def _without_view(client: Client, run: str) -> View:
    """What is known of a run right after its submission, or when its view has expired."""
    handle = await client.run(run)
    try:
        await handle.ended(NOW_SECONDS)
    except TimeoutError:
        if handle.session_id is None:
            raise no_such_run(run) from None
        return {"run_id": handle.run_id, "session_id": handle.session_id, "status": "accepted", "groups": {}}
    ended = (await handle.result()).to_document()
    kept = ("run_id", "request_id", "session_id", "status", "executions", "failures", "duration_seconds")
    return {name: ended[name] for name in kept} | {"groups": {}}
