"""From the bytes of a request to a record on Kafka: parse and validate once, check against the store, publish.

The Agency admits requests. Errors that can be found before (an invalid request, a used request id, a session of
another project) are reported here, at once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import orjson

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.json_documents import Format, load_document
from anabranch.core.names import REQUESTED_BY, key_problem, run_id_for
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.admission import Limits, ValidationResult, read_request, session_candidates
from anabranch.core.request.definitions import (
    instance_of,
    is_definition_request,
    read_definition_request,
    unknown_definition,
)
from anabranch.core.request.envelope import unwrap
from anabranch.core.request.request_hash import body_hash, has_other_body, request_id_conflict
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Outgoing
from anabranch.runtime.reading.run_records import existing_session_keys
from anabranch.sdk.client import Client, had_ended
from anabranch.sdk.run import Run
from anabranch_gateway.access.callers import Caller
from anabranch_gateway.access.ownership import SessionClaim, project_for, session_refusal
from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.http.parsing import SMALL_BODY_BYTES, ParsingPool
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.runs.lookup import FoundRun
from anabranch_gateway.runs.pending import PendingRun, PendingRuns

YAML_WEIGHT = 20
"""Parsing a byte of YAML takes at least as long as parsing this many bytes of JSON."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A valid request with its ids.

    Attributes:
        is_known: the same request was admitted before, and is not published again.
        ended: the final status of the run, if it has ended.
    """

    document: dict[str, Any]
    run_id: str
    request_id: str
    session_id: str
    project: str
    hash: str
    warnings: tuple[str, ...]
    is_known: bool
    ended: str | None = None

    def without_document(self) -> Submission:
        """The same without the document, so that a call waiting for the run's end does not keep it in memory."""
        return replace(self, document={})


@dataclass(frozen=True, slots=True)
class ParsedBody:
    """A parsed and validated body. `request` is what would be published; None if the body is refused."""

    document: Any
    validation: ValidationResult
    request: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Options:
    """Options of the validation: the document's size as sent, if the limit applies to it, and strictness."""

    size: int | None
    strict: bool


class Submitter:
    """Validates and publishes requests.

    Args:
        limits: limits on requests.
        agents: names that a request may use; None if they are not known here. Those of schedules are checked too.
        parsing: threads that parse and validate bodies.
        pending: keeps each published request until the Agency has admitted it.
    """

    def __init__(
        self,
        client: Client,
        limits: Limits,
        agents: Collection[str] | None,
        parsing: ParsingPool,
        pending: PendingRuns,
        broadcaster: EventBroadcaster,
    ) -> None:
        self._client = client
        self._limits = limits
        self.agents = agents
        self._parsing = parsing
        self._pending = pending
        self._broadcaster = broadcaster

    async def parse(self, caller: Caller, data: bytes, form: Format, *, strict: bool = False) -> ParsedBody:
        """Validate a request as the Agency will, with the keys that its session has now.

        The session's keys count only if the caller may use the session. `strict` also refuses placeholders without
        a value.

        Raises:
            RequestRefused: the body is neither valid JSON nor valid YAML.
            Refusal: 503, too many other bodies are being parsed.
            ServerUnavailable: the store does not respond.
        """
        limit = self._limits.request_bytes
        if form == "yaml" and len(data) > limit:
            message = f"the request has {len(data):,} bytes, over the limit of {limit:,}"
            raise RequestRefused([Problem(Code.TOO_LARGE, "", message, "split the request")])
        options = _Options(len(data) if form == "json" else None, strict)
        # The lane depends on the expected work, not on the bytes alone.
        lane = self._parsing.lane(len(data) if form == "json" else len(data) * YAML_WEIGHT)
        document, keys, found = await lane.run(self._parse, data, form, options)
        if is_definition_request(document):
            return await self._of_definition(caller, document, options)
        if found is None:
            session_keys = await self._session_keys(caller, document, keys)
            found = await lane.run(self._validate, document, session_keys, options)
        return found

    def _parse(
        self, data: bytes, form: Format, options: _Options
    ) -> tuple[Any, Collection[str], ParsedBody | None]:
        """Runs in a thread: parse the document, and validate it unless keys of its session have to be read
        first."""
        document = load_document(data, form)
        if is_definition_request(document):
            return document, (), None
        keys = sorted(session_candidates(document)) if _names_session(document) else ()
        return document, keys, None if keys else self._validate(document, (), options)

    async def _of_definition(self, caller: Caller, document: dict[str, Any], options: _Options) -> ParsedBody:
        """A request that starts a definition: what it becomes is validated, and what was sent is published.

        Raises:
            RequestRefused: it is invalid, or there is no such definition.
        """
        project = project_for(caller, document)
        sent = read_definition_request({**document, "project": project})
        definition = await self._client.definitions.find(project, sent.definition)
        if definition is None:
            raise unknown_definition(project, sent.definition)
        instance = instance_of(definition, sent)
        keys = sorted(session_candidates(instance)) if _names_session(instance) else ()
        session_keys = await self._session_keys(caller, instance, keys) if keys else ()
        validated = self._validate(instance, session_keys, replace(options, size=None))
        request = None if validated.request is None else sent.to_document()
        return ParsedBody(document, validated.validation, request)

    def _validate(self, document: Any, session_keys: Collection[str], options: _Options) -> ParsedBody:
        """Runs in a thread."""
        validation = read_request(
            document,
            limits=self._limits,
            agents=self.agents,
            session_keys=session_keys,
            document_bytes=options.size,
            strict=options.strict,
        )
        return ParsedBody(
            document, validation, None if validation.request is None else validation.request.to_document()
        )

    async def _session_keys(self, caller: Caller, document: Any, keys: Collection[str]) -> Collection[str]:
        """Those of the keys that the session has; empty if the request cannot use the session."""
        request, client = unwrap(document).request, self._client
        session_id, project = request.get("session_id"), project_for(caller, request)
        return await existing_session_keys(client.store, client.names, session_id, project, keys)

    async def check_session(self, caller: Caller, parsed: ParsedBody) -> ValidationResult:
        """The validation result, refused if the request cannot use its session.

        Raises:
            Refusal: 403, the caller does not see the request's project.
            ServerUnavailable: the store does not respond.
        """
        envelope = unwrap(parsed.document if isinstance(parsed.document, dict) else {})
        project, client = project_for(caller, envelope.request), self._client
        problem = await session_refusal(client.store, client.names, envelope.request, project)
        if problem is None:
            return parsed.validation
        located = replace(problem, path=envelope.pointer((problem.path.removeprefix("/"),)))
        return replace(parsed.validation, request=None, plan=None, errors=(located, *parsed.validation.errors))

    async def prepare(self, caller: Caller, parsed: ParsedBody, idempotency_key: str | None) -> Submission:
        """The submission of a parsed body, with its ids and what is known of an earlier submission.

        Raises:
            RequestRefused: with every error; also if the request id was used for another request.
            Refusal: 403, the caller does not see the request's project; 422, the idempotency key is invalid.
            ServerUnavailable: the store does not respond.
        """
        parsed.validation.required()
        document = parsed.request or {}
        ids = self._client.links.ids
        request_id = document.get("request_id") or _checked(idempotency_key) or ids.run_scoped()
        document["request_id"] = request_id
        project = project_for(caller, document)
        # The default project is omitted, so a request has the same hash whether it names it or not.
        if project != DEFAULT_PROJECT:
            document["project"] = project
        run_id = run_id_for(request_id)
        # The hash of a large document takes too long for the event loop.
        is_large = parsed.validation.bytes > SMALL_BODY_BYTES
        digest = await self._parsing.large.run(body_hash, document) if is_large else body_hash(document)
        record = await self._admission(run_id, document, project, digest)
        final = None if record is None else record.final
        warnings, ended = parsed.validation.warnings, None
        if final is not None:
            warnings, ended = (*warnings, *had_ended(request_id, final)), str(final["status"])
        session_id = document.get("session_id", run_id)
        return Submission(
            document, run_id, request_id, session_id, project, digest, warnings, record is not None, ended
        )

    async def _admission(
        self, run_id: str, document: dict[str, Any], project: str, digest: str
    ) -> RunRecord | None:
        """The record of the run, if this request was admitted before. Takes one round trip.

        Raises:
            RequestRefused: the id was used for another request, or the session belongs to another project.
        """
        names = self._client.names
        claim = SessionClaim.of(document)
        keys = [names.tombstone(run_id), *(claim.keys(names) if claim is not None else ())]
        stored, *owner = await self._client.store.get(keys)
        if claim is not None and (problem := claim.problem(project, owner)) is not None:
            raise RequestRefused([problem])
        record = None if stored is None else RunRecord.decode(stored)
        # Before the admission only this gateway's own submissions are known; the Agency decides about all others.
        if record is not None:
            known_hash = record.body_hash
        else:
            pending = self._pending.get(run_id)
            known_hash = None if pending is None else pending.hash
        if has_other_body(known_hash, digest):
            raise RequestRefused([request_id_conflict()])
        return record

    async def publish(self, submission: Submission, traceparent: str | None, requested_by: str) -> None:
        """Publish a submission, unless it is known; returns once Kafka has acknowledged the record.

        Args:
            requested_by: the caller who submits it; an approval may forbid the decision of that person.

        Raises:
            ServerUnavailable: Kafka does not accept the record.
        """
        if submission.is_known:
            return
        partition = await self._broadcaster.partition_of(submission.run_id)
        # Read before the record is published: no event of the run can be before this offset.
        events_from = self._broadcaster.position(partition)
        headers = {"content-type": b"application/json"}
        if traceparent is not None:
            headers["traceparent"] = traceparent.encode()
        headers[REQUESTED_BY] = requested_by.encode("ascii", "replace")
        names, value = self._client.names, orjson.dumps(submission.document)
        await self._client.log.publish([Outgoing(names.requests, submission.request_id, value, headers)])
        self._pending.add(
            PendingRun(
                submission.run_id,
                submission.request_id,
                submission.session_id,
                submission.project,
                submission.hash,
                submission.document.get("name"),
                self._client.links.clock.now(),
                events_from,
            )
        )

    async def add_retry(self, found: FoundRun, started: Run) -> None:
        """Keep the retry of a run, which was just started, as pending until the Agency has admitted it."""
        partition = await self._broadcaster.partition_of(started.run_id)
        self._pending.add(
            PendingRun(
                run_id=started.run_id,
                request_id=started.request_id or "",
                session_id=found.session_id,
                project=found.project,
                hash=None,
                name=None,
                submitted_at=self._client.links.clock.now(),
                # If the retry's first event has arrived already, it is before the current position.
                events_from=0 if started.acknowledged else self._broadcaster.position(partition),
            )
        )


def _names_session(document: Any) -> bool:
    return isinstance(document, dict) and unwrap(document).request.get("session_id") is not None


def _checked(idempotency_key: str | None) -> str | None:
    if idempotency_key is not None and (problem := key_problem(idempotency_key)) is not None:
        raise Refusal(422, str(Code.BAD_NAME), f"the header Idempotency-Key: {problem}")
    return idempotency_key
