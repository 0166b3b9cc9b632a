"""Validates forks of ended runs, and submits or refuses them."""

from __future__ import annotations

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.json_documents import dumps
from anabranch.core.names import run_id_for
from anabranch.core.request.admission import read_request, session_candidates
from anabranch.core.request.forking import fork_document, fork_points
from anabranch.core.request.request_hash import body_hash
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import SubmitRun
from anabranch.core.wire.results import RunRejected
from anabranch.ports import EventLog, Outgoing
from anabranch_agency.intake.records import RequestContext
from anabranch_agency.intake.sessions import Sessions
from anabranch_agency.owner.resubmit import submission_at
from anabranch_agency.run.forks import Fork, changed_keys, orders_of, taken_over


class ForkRequests:
    """The forks of one process."""

    def __init__(self, context: RequestContext, log: EventLog, sessions: Sessions) -> None:
        self._context = context
        self._log = log
        self._sessions = sessions

    async def submit(self, partition: int, effect: Fork) -> None:
        """Publish the submission of a fork, or its refusal. Raises ServerUnavailable, StoreRefused."""
        try:
            submit = await self._submission(partition, effect)
        except RequestRefused as refused:
            await self._log.publish([self._refusal(effect, refused)])
            return
        await self._log.publish([Outgoing(self._context.names.runs, submit.run_id, encode(submit))])

    async def _submission(self, partition: int, effect: Fork) -> SubmitRun:
        control, names = effect.control, self._context.names
        first = await submission_at(self._log, names.runs, partition, effect.offset, control.run_id)
        if first is None:
            message = f"the request of run {control.run_id} is no longer on the log"
            raise RequestRefused([Problem(Code.NOT_RETRYABLE, "/run_id", message, "submit the request again")])
        wanted = fork_document(first.request, first.session_id, control.fork_request, control.fork_set)
        keys = tuple(sorted(await self._sessions.keys_of(wanted, session_candidates(wanted))))
        result = read_request(wanted, limits=self._context.limits, agents=self._context.agents, session_keys=keys)
        canonical = result.required().to_document()
        canonical.pop("request_id", None)
        after = orders_of(canonical, keys)
        points = fork_points(after, control.fork_from)
        before = orders_of(first.request, first.session_keys)
        request_id = control.new_request_id or ""
        return SubmitRun(
            run_id=run_id_for(request_id),
            request_id=request_id,
            session_id=first.session_id,
            body_hash=body_hash(
                {"forked_from": first.run_id, "from": list(control.fork_from), "request": canonical}
            ),
            request=canonical,
            session_keys=keys,
            warnings=result.warnings,
            origin=control.origin,
            traceparent=control.traceparent,
            forked_from=first.run_id,
            taken=taken_over(before, after, points, changed_keys(first.request, canonical)),
        )

    def _refusal(self, effect: Fork, refused: RequestRefused) -> Outgoing:
        control = effect.control
        request_id = control.new_request_id or ""
        run_id = run_id_for(request_id)
        body = RunRejected(
            request_id=request_id,
            run_id=run_id,
            session_id=None,
            project=effect.project,
            errors=refused.errors,
            warnings=refused.warnings,
        ).to_document()
        headers = cloud_event_headers("run.rejected", f"{control.origin}/rejected", 0.0, subject=run_id)
        return Outgoing(self._context.names.results, request_id, dumps(body), headers=headers)
