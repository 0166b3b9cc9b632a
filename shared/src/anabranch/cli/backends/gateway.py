"""Implements the port of commands over a gateway's HTTP API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import orjson

from anabranch.cli.backends.backend import (
    ControlOutcome,
    DeadLetterGroups,
    Differences,
    Event,
    FollowedRun,
    SnapshotSource,
)
from anabranch.cli.backends.http_api import Api, Refused
from anabranch.cli.backends.http_run import PAGE, HttpRun, outcome, result_of, stream_events
from anabranch.cli.backends.servers import no_such_run
from anabranch.cli.said import Said
from anabranch.core.context_versions import Change
from anabranch.core.errors import AnabranchError, Misconfigured, NoSuchVersion, RequestRefused
from anabranch.core.names import run_id_for
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.request.definitions import unknown_definition
from anabranch.core.run_filter import EVERY_RUN, RunFilter
from anabranch.core.wire.run_view import RunView
from anabranch.dead_letters.decisions import Action, DeadLetterSelection, past_tense
from anabranch.dead_letters.grouping import no_such_dead_letter
from anabranch.runtime.instrumentation.correlation import trace_headers
from anabranch.runtime.reading.contexts import Difference, SharedContext, Version
from anabranch.sdk.approvals import REFUSALS, Answerable, Decision, DecisionRefused
from anabranch.sdk.client import Control
from anabranch.sdk.control import why_not_retried
from anabranch.sdk.run_result import RunResult
from anabranch.sdk.schedules import unknown_schedule

if TYPE_CHECKING:
    from anabranch.operations.why.examination import Answer

RUNS_PAGE = 500
MAX_WAITED = 200.0
"""Seconds that one HTTP request waits for a run's end (long polling)."""


class Gateway:
    """See the module.

    Args:
        fresh_id: makes the request id of a request that has none.
    """

    def __init__(self, api: Api, fresh_id: Callable[[], str]) -> None:
        self._api = api
        self._fresh_id = fresh_id
        self.description = api.url

    async def submit(self, request: Mapping[str, Any]) -> FollowedRun:
        # The request id is made here, so that a submit repeated after a lost response is the same run.
        named = {**request, "request_id": request.get("request_id") or self._fresh_id()}
        accepted = await self._api.post("v1", "runs", body=named, headers=trace_headers())
        return HttpRun(self._api, accepted)

    async def fork(self, run: str, body: Mapping[str, Any], said: Said) -> FollowedRun:
        # The id is made here, so that a repeated call does not start a second run.
        named = {**body, "request_id": body.get("request_id") or self._fresh_id()} | _said(said)
        try:
            return HttpRun(self._api, await self._api.post("v1", "runs", run, "fork", body=named))
        except Refused as refused:
            if refused.status == 404 and (problem := why_not_retried(run, None, is_fork=True)) is not None:
                raise RequestRefused([problem]) from refused
            raise

    async def push_definition(self, document: Any) -> Mapping[str, Any]:
        pushed: Mapping[str, Any] = await self._api.post("v1", "definitions", body=document)
        return pushed

    async def definitions(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = (await self._api.get("v1", "definitions"))["definitions"]
        return found

    async def definition(self, reference: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = await self._api.get("v1", "definitions", reference)
        except Refused as refused:
            if refused.status == 404:
                raise unknown_definition(DEFAULT_PROJECT, reference) from refused
            raise
        return found

    async def retry(self, run: str, request_id: str | None, said: Said) -> FollowedRun:
        # Also made here, so that a repeated call does not start a second run.
        body = {"request_id": request_id or self._fresh_id()} | _said(said)
        try:
            return HttpRun(self._api, await self._api.post("v1", "runs", run, "retry", body=body))
        except Refused as refused:
            if refused.status == 404 and (problem := why_not_retried(run, None)) is not None:
                raise RequestRefused([problem]) from refused
            raise

    async def put_schedule(self, document: Any, said: Said) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self._api.post("v1", "schedules", body=document)
        return found

    async def schedules(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = (await self._api.get("v1", "schedules"))["schedules"]
        return found

    async def schedule(self, schedule_id: str) -> Mapping[str, Any]:
        with _known_schedule(schedule_id):
            found: Mapping[str, Any] = await self._api.get("v1", "schedules", schedule_id)
        return found

    async def act_on_schedule(
        self, action: str, schedule_id: str, said: Said, fields: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        with _known_schedule(schedule_id):
            if action == "delete":
                await self._api.delete("v1", "schedules", schedule_id)
                return None
            body = {**_said(said), **fields}
            given = {name: value for name, value in body.items() if value is not None}
            found: Mapping[str, Any] = await self._api.post("v1", "schedules", schedule_id, action, body=given)
        return found

    async def control(self, action: Control, run: str, said: Said) -> ControlOutcome:
        try:
            answer = await self._api.post("v1", "runs", run, str(action), body=_said(said) or None)
        except Refused as refused:
            if refused.status == 404:
                return ControlOutcome(run_id_for(run), known=False)
            if refused.code != "run_ended":
                raise
            view = await self._run(run)
            return ControlOutcome(view.run_id, ended=view.status)
        return ControlOutcome(answer["run_id"])

    async def signal(self, run: str, name: str, value: Any, signal_id: str | None) -> ControlOutcome:
        body = {"value": value} | ({} if signal_id is None else {"signal_id": signal_id})
        try:
            answer = await self._api.post("v1", "runs", run, "signals", name, body=body)
        except Refused as refused:
            if refused.code != "run_ended":
                raise
            view = await self._run(run)
            return ControlOutcome(view.run_id, ended=view.status)
        return ControlOutcome(answer["run_id"], known=bool(answer["known"]))

    async def publish(self, event: Mapping[str, Any]) -> str:
        return str((await self._api.post("v1", "events", body=dict(event)))["id"])

    async def decide_approval(self, wanted: Answerable) -> Decision:
        group = wanted.group or await self._group_of(wanted)
        body = {
            "decision": wanted.decision,
            "data": wanted.data,
            "comment": wanted.comment,
            "index": wanted.index,
            "by": wanted.by,
            "decision_id": wanted.decision_id,
        }
        given = {name: value for name, value in body.items() if value not in (None, "")}
        try:
            answer = await self._api.post("v1", "runs", wanted.run_id, "approvals", group, wanted.task, body=given)
        except Refused as refused:
            if refused.code not in REFUSALS:
                raise
            raise DecisionRefused(refused.code, str(refused)) from refused
        return Decision(**{name: answer[name] for name in Decision.__dataclass_fields__})

    async def _group_of(self, wanted: Answerable) -> str:
        """The group with a task of this name that waits for a person, else with a task of this name."""
        view = await self._run(wanted.run_id)
        groups = [(bool(task.waits), group) for group, name, task in view.tasks() if name == wanted.task]
        if not groups:
            raise DecisionRefused("not_found", f"run {view.run_id} has no task {wanted.task!r}")
        return max(groups)[1]

    async def workers(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = (await self._api.get("v1", "workers"))["workers"]
        return found

    async def agents(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = (await self._api.get("v1", "agents"))["agents"]
        return found

    async def limits(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = (await self._api.get("v1", "limits"))["limits"]
        return found

    async def set_breaker(self, agent: str, action: Literal["open", "close"], said: Said) -> None:
        await self._api.post("v1", "breakers", agent, action, body=_said(said) or None)

    async def views(self, limit: int, wanted: RunFilter = EVERY_RUN) -> Sequence[RunView]:
        condition = None if wanted.condition is None else orjson.dumps(wanted.condition).decode()
        found: list[RunView] = []
        cursor: str | None = None
        while len(found) < limit:
            size = min(limit - len(found), RUNS_PAGE)
            page = await self._api.get("v1", "runs", full=True, limit=size, cursor=cursor, filter=condition)
            found += map(RunView.from_document, page["runs"])
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return found

    async def status(self, run: str) -> RunView:
        return await self._run(run)

    async def result(self, run: str, timeout: float | None) -> RunResult | None:
        loop = asyncio.get_running_loop()
        until = loop.time() + (timeout or 0)
        while True:
            left = max(0.0, until - loop.time())
            try:
                found = await outcome(self._api, run, min(left, MAX_WAITED))
            except Refused as refused:
                if refused.status == 404:
                    return None
                raise
            if found is not None:
                return await result_of(self._api, found)
            # The whole remaining time was waited for in this request.
            if left <= MAX_WAITED:
                return None

    async def events(self, run: str, *, follow: bool) -> AsyncGenerator[Event, None]:
        source = stream_events(self._api, run) if follow else self._past_events(run)
        try:
            async with aclosing(source) as found:
                async for event in found:
                    yield event
        except Refused as refused:
            if refused.status != 404:
                raise

    async def context(self, run: str, at: int | None) -> SharedContext:
        try:
            return _context_of(await self._api.get("v1", "runs", run, "context", at=at))
        except Refused as refused:
            raise await self._version_error(refused, run, at) from refused

    async def differences(self, run: str, a: int, b: int) -> Differences:
        try:
            found = await self._api.get("v1", "runs", run, "context", "diff", a=a, b=b)
        except Refused as refused:
            raise await self._version_error(refused, run, a, b) from refused
        differences = [_difference_of(each) for each in found["differences"]]
        return Differences(found["session_id"], found["a"], found["b"], differences)

    async def why(self, run: str, *, heal: bool) -> tuple[Answer, list[str]]:
        from anabranch.operations.why.answer import answer_of

        call = self._api.post("v1", "runs", run, "heal") if heal else self._api.get("v1", "runs", run, "why")
        try:
            document = await call
        except Refused as refused:
            raise _run_error(refused, run) from refused
        return answer_of(document), document.get("healed") or []

    async def dead_letter_groups(self, *, run: str | None, signature: str | None, every: bool) -> DeadLetterGroups:
        # The API returns no number of decided dead letters: it is the difference between all and the open ones.
        found = await self._dead_letter_groups("all", run, signature)
        if every:
            return DeadLetterGroups(found["groups"], found["letters"], 0)
        opened = await self._dead_letter_groups("open", run, signature)
        decided = max(0, found["letters"] - opened["letters"])
        return DeadLetterGroups(opened["groups"], opened["letters"], decided)

    async def dead_letter(self, letter_id: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = await self._api.get("v1", "dead-letters", letter_id)
        except Refused as refused:
            raise no_such_dead_letter(letter_id) if refused.status == 404 else refused from refused
        return found

    async def decide(self, action: Action, choice: DeadLetterSelection, said: Said) -> Mapping[str, Any]:
        body: dict[str, Any] = {"signature": choice.signature, "run": choice.run}
        if choice.ids:
            body = {"ids": list(choice.ids)}
        body |= _reason(said)
        try:
            found: Mapping[str, Any] = await self._api.post("v1", "dead-letters", action, body=body)
        except Refused as refused:
            if refused.status != 404:
                raise
            for each in choice.ids:  # one by one, so that the error names the missing id
                await self.dead_letter(each)
            return {past_tense(action): [], "refused": []}
        return found

    def snapshots(self, limit: int) -> SnapshotSource:
        from anabranch.cli.backends.top_snapshots import GatewaySnapshots

        return GatewaySnapshots(self, limit)

    async def system(self) -> Mapping[str, Any]:
        """Services of the system and their consumer lags."""
        found: Mapping[str, Any] = await self._api.get("v1", "system")
        return found

    async def _run(self, run: str) -> RunView:
        try:
            return RunView.from_document(await self._api.get("v1", "runs", run))
        except Refused as refused:
            raise _run_error(refused, run) from refused

    async def _dead_letter_groups(self, state: str, run: str | None, signature: str | None) -> Any:
        return await self._api.get("v1", "dead-letters", "groups", state=state, run=run, signature=signature)

    async def _past_events(self, run: str) -> AsyncGenerator[Event, None]:
        after: str | None = None
        while True:
            page = await self._api.get("v1", "runs", run, "events", limit=PAGE, after=after)
            for event in page["events"]:
                yield event
            if len(page["events"]) < PAGE:
                return
            after = page["next_after"]

    async def _version_error(self, refused: Refused, run: str, *wanted: int | None) -> AnabranchError:
        """The error for a 404 of the context: there is no such run, or one of these versions is not kept."""
        if refused.status not in (404, 422):
            return refused
        try:
            known = _context_of(await self._api.get("v1", "runs", run, "context"))
        except Refused as unknown:
            return _run_error(unknown, run)
        missing = [each for each in wanted if each is not None and not known.dropped <= each <= known.last]
        if not missing:
            return refused
        return NoSuchVersion(known.session_id, missing[0], known.dropped, known.last)


def _run_error(refused: Refused, run: str) -> AnabranchError:
    if refused.status == 404:
        return no_such_run(run)
    if refused.status == 501:
        return Misconfigured("why", refused.detail, "ask over Kafka and Redis: --brokers, --redis-url")
    return refused


def _context_of(document: Mapping[str, Any]) -> SharedContext:
    versions = tuple(Version(each["version"], _change_of(each)) for each in document["versions"])
    return SharedContext(document["session_id"], document["at"], document["last"], document["dropped"], versions)


def _difference_of(document: Mapping[str, Any]) -> Difference:
    return Difference(**{**document, "versions": tuple(document["versions"])})


def _change_of(version: Mapping[str, Any]) -> Change:
    named = {"size": version["bytes"], **version, "writers": tuple(version["writers"])}
    return Change(**{each.name: named[each.name] for each in fields(Change)})


def _said(said: Said) -> dict[str, str]:
    """The fields of a command's body. A gateway that knows its caller ignores `by`."""
    return {name: value for name, value in said._asdict().items() if value is not None}


def _reason(said: Said) -> dict[str, str]:
    """The field of the body of a command for which a gateway takes no `by`."""
    return {} if said.reason is None else {"reason": said.reason}


@contextmanager
def _known_schedule(schedule_id: str) -> Iterator[None]:
    """Translate the response that there is no such schedule. Raises RequestRefused."""
    try:
        yield
    except Refused as refused:
        if refused.status == 404:
            raise unknown_schedule(schedule_id) from refused
        raise
