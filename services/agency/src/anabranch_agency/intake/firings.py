"""Validates the requests of schedules' firings, and submits or rejects them.

A firing is validated like any request, each time: its definition, its agents and its session may have changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.names import run_id_for
from anabranch.core.request.admission import read_request, session_candidates
from anabranch.core.request.definitions import (
    Definition,
    DefinitionRequest,
    instance_of,
    unknown_definition,
)
from anabranch.core.request.request_hash import body_hash
from anabranch.core.schedules.reading import with_time
from anabranch.core.schedules.times import firing_id
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import DefinitionRef, FiringEnded, ScheduleLink, SubmitRun
from anabranch.ports import EventLog, Outgoing
from anabranch.runtime.fitted_log import size_of
from anabranch.runtime.reading.definitions import DefinitionTable
from anabranch_agency.intake.records import RequestContext
from anabranch_agency.intake.sessions import Sessions
from anabranch_agency.run.firing_answers import MAX_MESSAGE
from anabranch_agency.run.firings import SubmitFiring


class FiringRequests:
    """The firings of one process."""

    def __init__(
        self, context: RequestContext, log: EventLog, sessions: Sessions, definitions: DefinitionTable
    ) -> None:
        self._context = context
        self._log = log
        self._sessions = sessions
        self._definitions = definitions

    async def submit(self, firings: Sequence[SubmitFiring]) -> None:
        """Publish the submission of each firing, or its rejection for the schedule.

        Raises:
            ServerUnavailable, StoreRefused: a server does not answer.
        """
        await self._log.publish(await asyncio.gather(*map(self._record_of, firings)))

    async def _record_of(self, firing: SubmitFiring) -> Outgoing:
        try:
            submit = await self._submission(firing)
            record = Outgoing(self._context.names.runs, submit.run_id, encode(submit))
            limit = await self._log.record_limit(self._context.names.runs)
            if (size := size_of(record)) > limit:
                message = f"the request has {size:,} bytes, the log allows {limit:,}"
                raise RequestRefused([Problem(Code.TOO_LARGE, "", message, "make it smaller")])
        except RequestRefused as refused:
            return self._rejected(firing, "; ".join(map(str, refused.errors)))
        return record

    def _rejected(self, firing: SubmitFiring, why: str) -> Outgoing:
        run_id = run_id_for(firing_id(firing.schedule_id, firing.at))
        message = why[:MAX_MESSAGE]
        ended = FiringEnded(run_id=firing.address, firing=run_id, at=firing.at, status="rejected", message=message)
        return Outgoing(self._context.names.runs, firing.address, encode(ended))

    async def _submission(self, firing: SubmitFiring) -> SubmitRun:
        """Raises RequestRefused with the problems of the request."""
        context, request_id = self._context, firing_id(firing.schedule_id, firing.at)
        definition = await self._definition_of(firing)
        document: dict[str, Any] = dict(firing.request or {})
        if definition is not None:
            document = instance_of(definition, DefinitionRequest(definition=definition.name, input=firing.input))
        document = with_time(document, firing.at) | {"request_id": request_id, "project": firing.project}
        document.setdefault("name", firing.schedule_id)
        candidates = session_candidates(document) if document.get("session_id") else frozenset()
        keys = tuple(sorted(await self._sessions.keys_of(document, candidates)))
        result = read_request(document, limits=context.limits, agents=context.agents, session_keys=keys)
        canonical = result.required().to_document()
        canonical.pop("request_id", None)
        if (problem := await self._sessions.claim(document)) is not None:
            raise RequestRefused([problem])
        link = ScheduleLink(address=firing.address, id=firing.schedule_id, at=firing.at, source=firing.source)
        run_id = run_id_for(request_id)
        return SubmitRun(
            run_id=run_id,
            request_id=request_id,
            session_id=canonical.get("session_id") or run_id,
            # Without the request: a firing is the same one after the schedule was changed.
            body_hash=body_hash({"schedule": firing.address, "at": firing.at}),
            request=canonical,
            session_keys=keys,
            warnings=result.warnings,
            definition=None if definition is None else DefinitionRef(**definition.stamp),
            schedule=link,
        )

    async def _definition_of(self, firing: SubmitFiring) -> Definition | None:
        if firing.definition is None:
            return None
        found = await self._definitions.find(firing.project, firing.definition)
        if found is None:
            raise unknown_definition(firing.project, firing.definition)
        return found
