"""Reads the requests topic: looks up what a session already has, decides, publishes, then commits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from anabranch.core.errors import RecordTooLarge
from anabranch.core.request.admission import session_candidates
from anabranch.core.request.envelope import unwrap
from anabranch.ports import EventLog, Incoming, Outgoing
from anabranch.runtime.fitted_log import size_of
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.until_available import until_available
from anabranch_agency.intake.requests import (
    RequestContext,
    document_of,
    handle,
    is_control,
    origin_of,
    refused_session,
    refused_subscription,
    subscription_of,
    unhandled,
)
from anabranch_agency.intake.sessions import Sessions

log = logging.getLogger(__name__)

BATCH = 200
QUEUE = 1_000


class RequestConsumer:
    """Reads requests. What a record becomes is durable before its offset is committed, so a crash repeats and
    never loses it."""

    def __init__(self, desk: RequestContext, eventlog: EventLog, sessions: Sessions) -> None:
        self._desk = desk
        self._log = eventlog
        self._sessions = sessions
        self._inbox = Consumer(eventlog, desk.names.agency_requests, desk.names.requests, most=QUEUE)
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    @property
    def failure(self) -> BaseException | None:
        """What made the reader stop, if anything did."""
        return self._failure or self._inbox.failure

    @property
    def unhealthy_reason(self) -> str | None:
        """Why no requests may come any more; None where they may."""
        return self._inbox.unhealthy_reason

    async def start(self) -> None:
        """Join the group that reads requests."""
        await self._inbox.start()
        self._task = asyncio.create_task(self._loop(), name="requests")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Leave the group; what was read and not handled is somebody else's."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._inbox.stop()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            log.critical("the reader of requests stopped", exc_info=self._failure)

    async def _loop(self) -> None:
        while True:
            batch = await self._inbox.take(BATCH)
            await self._handle(batch)
            self._inbox.done(batch)

    async def _handle(self, batch: Sequence[Incoming]) -> None:
        """Handle records together; where that fails, one by one, so that none stands in the others' way."""
        try:
            await self._publish(batch)
        except Exception as error:
            # Whatever it is, it must not come again with each reader.
            if len(batch) == 1:
                log.exception("the request at %s cannot be handled", origin_of(batch[0]))
                await self._refuse(batch[0], error)
            else:
                for record in batch:
                    await self._handle([record])

    async def _publish(self, batch: Sequence[Incoming]) -> None:
        async def publish() -> None:
            found = await asyncio.gather(*(self._one(record) for record in batch))  # one round trip for all
            await self._log.publish([each for outgoing in found for each in outgoing])

        await until_available(publish, "process requests")

    async def _refuse(self, record: Incoming, error: Exception) -> None:
        outgoing = list(unhandled(self._desk, record, error))
        await until_available(lambda: self._log.publish(outgoing), "publish the refusal of a request")

    async def _one(self, record: Incoming) -> list[Outgoing]:
        document = document_of(record.value, self._desk.limits)
        if is_control(document):
            return await self._controlled(record, document)
        request = unwrap(document).request if isinstance(document, Mapping) else {}
        found = await self._sessions.keys_of(request, session_candidates(document))
        outgoing = list(handle(self._desk, record, document, found))
        await self._check_size(outgoing)
        if self._is_submission(outgoing) and (problem := await self._sessions.take(request)) is not None:
            return list(refused_session(self._desk, record, document, problem))
        return outgoing

    async def _check_size(self, outgoing: Sequence[Outgoing]) -> None:
        """A request has to be one record of the log: a retry reads it from there by its offset."""
        limit = await self._log.record_limit(self._desk.names.runs)
        for each in outgoing:
            if each.topic == self._desk.names.runs and (size := size_of(each)) > limit:
                raise RecordTooLarge(each.topic, size, limit)

    def _is_submission(self, outgoing: Sequence[Outgoing]) -> bool:
        return len(outgoing) == 1 and outgoing[0].topic == self._desk.names.runs

    async def _controlled(self, record: Incoming, document: Mapping[str, Any]) -> list[Outgoing]:
        """A subscription has to be of a run or session of its project. A run that is not known yet may be
        subscribed to: the event manager looks at its project with each event."""
        wanted = subscription_of(document)
        if wanted is not None:
            owns = await self._sessions.owns(wanted.project, wanted.run_id, wanted.session_id)
            if owns is False:
                return list(refused_subscription(self._desk, record, wanted))
        return list(handle(self._desk, record, document, ()))
