"""Validates the requests of sub-runs, and submits or rejects the children.

A sub-run is validated like any request: limits, agents, session. Its project is that of its parent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.names import run_id_for
from anabranch.core.request.admission import read_request, session_candidates
from anabranch.core.request.definitions import check_input, unknown_definition
from anabranch.core.request.request_hash import body_hash
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ChildEnded, DefinitionRef, SubmitChild, SubmitRun
from anabranch.ports import EventLog, Outgoing
from anabranch.runtime.fitted_log import size_of
from anabranch.runtime.reading.definitions import DefinitionTable
from anabranch_agency.intake.records import RequestContext
from anabranch_agency.intake.sessions import Sessions
from anabranch_agency.run.child_answers import member_of


class ChildRequests:
    """The requests of sub-runs of one process."""

    def __init__(
        self, context: RequestContext, log: EventLog, sessions: Sessions, definitions: DefinitionTable
    ) -> None:
        self._context = context
        self._log = log
        self._sessions = sessions
        self._definitions = definitions

    async def submit(self, messages: Sequence[SubmitChild]) -> None:
        """Publish the submission of each child, or its rejection for the parent.

        Raises:
            ServerUnavailable, StoreRefused: a server does not answer.
        """
        await self._log.publish(await asyncio.gather(*map(self._record_of, messages)))

    async def _record_of(self, message: SubmitChild) -> Outgoing:
        try:
            submit = await self._submission(message)
        except RequestRefused as refused:
            return self._rejected(message, "; ".join(map(str, refused.errors)))
        record = Outgoing(self._context.names.runs, submit.run_id, encode(submit))
        limit = await self._log.record_limit(self._context.names.runs)
        # A retry of the child reads the record from its position, as that of any request.
        if (size := size_of(record)) > limit:
            return self._rejected(message, f"the request has {size:,} bytes, the log allows {limit:,}")
        return record

    def _rejected(self, message: SubmitChild, why: str) -> Outgoing:
        link = message.parent
        ended = ChildEnded(**member_of(link), child_run_id=message.run_id, status="rejected", message=why[:4_000])
        return Outgoing(self._context.names.groups, link.session_id, encode(ended))

    async def _submission(self, message: SubmitChild) -> SubmitRun:
        """Raises RequestRefused with the problems of the request."""
        definition, wanted = None, message.request
        if message.definition is not None:
            definition = await self._definitions.find(message.project, message.definition)
            if definition is None:
                raise unknown_definition(message.project, message.definition)
            wanted = dict(definition.request)
        document = _document_of(message, wanted or {})
        if definition is not None:
            check_input(definition, document.get("context") or {}, "/context")
        candidates = session_candidates(document) if document.get("session_id") else frozenset()
        keys = tuple(sorted(await self._sessions.keys_of(document, candidates)))
        context = self._context
        result = read_request(document, limits=context.limits, agents=context.agents, session_keys=keys)
        request = result.required()
        if message.timeout is not None and message.timeout < request.timeout:
            request = request.model_copy(update={"timeout": message.timeout})
        if (problem := await self._sessions.claim(document)) is not None:
            raise RequestRefused([problem])
        canonical = request.to_document()
        canonical.pop("request_id", None)
        link = message.parent.model_dump(mode="json")
        return SubmitRun(
            run_id=run_id_for(message.request_id),
            request_id=message.request_id,
            session_id=canonical.get("session_id") or message.run_id,
            # With the parent: a request of a user that has the same id is another one. A child of a definition is
            # the same one after another version was pushed.
            body_hash=body_hash({"parent": link, "request": canonical if definition is None else None}),
            request=canonical,
            session_keys=keys,
            warnings=result.warnings,
            traceparent=message.traceparent,
            parent=message.parent,
            budget=message.budget,
            inherited=message.inherited,
            definition=None if definition is None else DefinitionRef(**definition.stamp),
        )


def _document_of(message: SubmitChild, request: Mapping[str, Any]) -> dict[str, Any]:
    """The request of a child, with what its parent decides.

    Raises:
        RequestRefused: it names another project.
    """
    project = request.get("project")
    if project not in (None, message.project):
        problem = Problem(
            Code.SCHEMA,
            "/project",
            f"a sub-run of a run of the project {message.project!r} cannot be of the project {project!r}",
            "leave `project` out: it is that of the parent",
        )
        raise RequestRefused([problem])
    document = {**request, "project": message.project, "request_id": message.request_id}
    if message.context:
        own = request.get("context")
        document["context"] = {**(own if isinstance(own, Mapping) else {}), **message.context}
    if message.session_id is not None:
        document["session_id"] = message.session_id
    return document
