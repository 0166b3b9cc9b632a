"""Consumes the requests topic: looks up the session of each request, decides, publishes, then commits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from anabranch.core.errors import RecordTooLarge, RequestRefused
from anabranch.core.project import project_named
from anabranch.core.request.admission import session_candidates
from anabranch.core.request.definitions import (
    is_definition_request,
    read_definition_request,
    unknown_definition,
)
from anabranch.core.request.envelope import is_envelope, unwrap
from anabranch.ports import Incoming
from anabranch.runtime.fitted_log import size_of
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.reading.definitions import DefinitionTable
from anabranch.runtime.until_available import until_available
from anabranch_agency.intake.control_records import refuse_subscription, subscription_of
from anabranch_agency.intake.records import (
    Decision,
    RequestContext,
    Submit,
    document_of,
    is_control,
    origin_of,
    shape_in,
    text_of,
)
from anabranch_agency.intake.refusals import refuse, refuse_session, refuse_unprocessable
from anabranch_agency.intake.requests import decide, decide_definition
from anabranch_agency.intake.sessions import Sessions

log = logging.getLogger(__name__)

MAX_BATCH = 200
MAX_QUEUED = 1_000


class RequestConsumer:
    """Consumes requests and control records.

    The records that a request becomes are durable before its offset is committed: after a crash the request is
    processed again, and the owner of its run drops the duplicate.
    """

    def __init__(
        self,
        context: RequestContext,
        resources: Resources,
        sessions: Sessions,
        definitions: DefinitionTable | None = None,
    ) -> None:
        self._context = context
        self._log = resources.log
        self._sessions = sessions
        self._definitions = definitions or DefinitionTable(resources.log, context.names)
        names = context.names
        self._consumer = Consumer(
            resources.log, names.agency_requests, names.requests, resources.supervisor, max_queued=MAX_QUEUED
        )
        self._tasks = resources.supervisor.tasks()

    @property
    def unhealthy_reason(self) -> str | None:
        """Why no requests are received; None if they are."""
        return self._consumer.unhealthy_reason

    async def start(self) -> None:
        """Join the consumer group of requests."""
        await self._consumer.start()
        self._tasks.spawn(self._loop(), "requests")

    async def stop(self) -> None:
        """Leave the group; records that were read and not processed go to another consumer."""
        await self._tasks.cancel()
        await self._consumer.stop()

    async def _loop(self) -> None:
        while True:
            batch = await self._consumer.take(MAX_BATCH)
            await self._handle(batch)
            self._consumer.done(batch)

    async def _handle(self, batch: Sequence[Incoming]) -> None:
        """Process a batch at once. If that fails, process its records one by one: a bad record must neither block
        the others nor stop the next consumer, so it is refused."""
        try:
            await self._publish(batch)
        except Exception as error:
            if len(batch) > 1:
                for record in batch:
                    await self._handle([record])
                return
            log.exception("agency: cannot process the request at %s, refusing it", origin_of(batch[0]))
            await self._refuse(batch[0], error)

    async def _publish(self, batch: Sequence[Incoming]) -> None:
        async def publish() -> None:
            if len(batch) == 1:
                await self._log.publish((await self._decide(batch[0])).records)
                return
            decisions = await asyncio.gather(*(self._decide(record) for record in batch))  # one round trip for all
            await self._log.publish([record for decision in decisions for record in decision.records])

        await until_available(publish, "process requests")

    async def _refuse(self, record: Incoming, error: Exception) -> None:
        refusal = refuse_unprocessable(self._context, record, error)
        await until_available(lambda: self._log.publish(refusal.records), "publish the refusal of a request")

    async def _decide(self, record: Incoming) -> Decision:
        document = document_of(record.value, self._context.limits)
        if is_control(document):
            return await self._decide_control(record, document)
        # Anything else is refused by `decide`, which needs no session for that.
        if not isinstance(document, dict):
            return decide(self._context, record, document)
        if (started := _definition_in(document)) is not None:
            return await self._decide_definition(record, started)
        sent = unwrap(document)
        shape = shape_in(sent)
        candidates = self._context.known.candidates(document, shape)
        keys = await self._sessions.keys_of(sent.request, candidates)
        decision = decide(self._context, record, document, keys, shape)
        if isinstance(decision, Submit):
            # The size is checked before the session is claimed: a refused request must not own a session.
            await self._check_size(decision)
            problem = await self._sessions.claim(sent.request)
            if problem is not None:
                return refuse_session(self._context, record, document, problem)
        return decision

    async def _decide_definition(self, record: Incoming, document: Mapping[str, Any]) -> Decision:
        """Decide on a request that starts a definition."""
        project = project_named(document)
        try:
            request = read_definition_request(document)
            definition = await self._definitions.find(request.project, request.definition)
            if definition is None:
                raise unknown_definition(request.project, request.definition)
        except RequestRefused as refused:
            return refuse(
                self._context,
                record,
                refused.errors,
                request_id=text_of(document, "request_id"),
                session_id=text_of(document, "session_id"),
                project=project,
            )
        target = {**definition.request, **request.to_document()}
        keys = await self._sessions.keys_of(target, session_candidates(target))
        decision = decide_definition(self._context, record, request, definition, keys)
        if isinstance(decision, Submit):
            await self._check_size(decision)
            problem = await self._sessions.claim(request.to_document())
            if problem is not None:
                return refuse_session(self._context, record, document, problem)
        return decision

    async def _check_size(self, submission: Submit) -> None:
        """A request has to fit into one record of `runs`: a retry reads it from there by its offset."""
        limit = await self._log.record_limit(self._context.names.runs)
        [record] = submission.records
        if (size := size_of(record)) > limit:
            raise RecordTooLarge(record.topic, size, limit)

    async def _decide_control(self, record: Incoming, document: Mapping[str, Any]) -> Decision:
        """Decide on a control record, after the ownership check of a subscription.

        A subscription to a run that is not known yet is accepted: the event manager checks the project of each
        event.
        """
        scope = subscription_of(document)
        if scope is not None:
            owns = await self._sessions.owns(scope.project, scope.run_id, scope.session_id)
            if owns is False:
                return refuse_subscription(self._context, record, scope)
        return decide(self._context, record, document)


def _definition_in(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The part of a record that starts a definition: the record itself, or the object in its envelope."""
    inner = document.get("object") if is_envelope(document) else document
    return inner if isinstance(inner, Mapping) and is_definition_request(inner) else None
