"""The schema: one query type over what the gateway reads anyway. Nothing is changed through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions import (
    MaxAliasesLimiter,
    MaxTokensLimiter,
    QueryDepthLimiter,
)

from anabranch.core.run_filter import RunFilter
from anabranch.dead_letters.grouping import to_document
from anabranch_gateway.access.callers import Caller
from anabranch_gateway.context import GatewayContext
from anabranch_gateway.graphql.cost import DEFAULT_FIRST, MAX_FIRST, CostLimit
from anabranch_gateway.graphql.types import (
    Agent,
    DeadLetter,
    DeadLetterPage,
    Run,
    RunPage,
    Schedule,
    run_of,
)
from anabranch_gateway.http.problems import Refusal, refusal_of
from anabranch_gateway.runs.query import list_runs

MAX_DEPTH = 10
MAX_ALIASES = 30
MAX_TOKENS = 2_000

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class QueryContext:
    """Who asks, and what answers."""

    gateway: GatewayContext
    caller: Caller

    @property
    def now(self) -> float:
        return self.gateway.client.links.clock.now()


Info = strawberry.Info[QueryContext, None]


async def _run(info: Info, id: strawberry.ID) -> Run | None:
    context = info.context
    try:
        found = await context.gateway.lookup.find(context.caller, id)
        view = await context.gateway.lookup.view(found)
    except Refusal as refusal:
        if refusal.status == 404:
            return None
        raise
    return run_of(view, context.now)


async def _runs(
    info: Info,
    first: int = DEFAULT_FIRST,
    after: str | None = None,
    status: str | None = None,
    name: str | None = None,
    label: list[str] | None = None,
    session_id: str | None = None,
    project: str | None = None,
    retry_of: str | None = None,
    since: float | None = None,
    until: float | None = None,
    text: str | None = None,
) -> RunPage:
    context = info.context
    wanted = RunFilter(status, name, tuple(label or ()), session_id, project, retry_of, since, until, text)
    index = context.gateway.run_index
    page = await list_runs(index, context.caller, wanted, _page_size(first), after)
    return RunPage(nodes=[run_of(view, context.now) for view in page.views], next_cursor=page.next_cursor)


async def _dead_letters(
    info: Info, first: int = DEFAULT_FIRST, after: str | None = None, state: str = "open"
) -> DeadLetterPage:
    context, size = info.context, _page_size(first)
    letters = await context.gateway.dead_letters.read(context.caller)
    found = [each for each in reversed(letters) if state in ("all", each.state)]
    ids = [each.id for each in found]
    start = 0 if after is None else ids.index(after) + 1 if after in ids else len(ids)
    page = found[start : start + size]
    more = start + size < len(found)
    return DeadLetterPage(
        nodes=[_dead_letter(to_document(each)) for each in page],
        next_cursor=page[-1].id if page and more else None,
    )


async def _schedules(info: Info) -> list[Schedule]:
    found = await info.context.gateway.client.schedules.list()
    return [_schedule(each) for each in found if info.context.caller.sees(each["project"])]


async def _agents(info: Info) -> list[Agent]:
    found = await info.context.gateway.client.agents()
    return [Agent(name=each["name"], document=each) for each in found]


@strawberry.type(description="What can be asked for.")
class Query:
    run: Run | None = strawberry.field(
        resolver=_run, description="The run with this run id or request id; null if there is none."
    )
    runs: RunPage = strawberry.field(
        resolver=_runs, description="Runs of the caller's projects, the latest first."
    )
    dead_letters: DeadLetterPage = strawberry.field(
        resolver=_dead_letters, description="Records that could not be processed, the latest first."
    )
    schedules: list[Schedule] = strawberry.field(
        resolver=_schedules, description="The schedules of the caller's projects."
    )
    agents: list[Agent] = strawberry.field(resolver=_agents, description="The agents of the live workers.")


def _page_size(first: int) -> int:
    if not 1 <= first <= MAX_FIRST:
        raise Refusal(422, "schema", f"first must be from 1 to {MAX_FIRST}")
    return first


def _dead_letter(document: Document) -> DeadLetter:
    return DeadLetter(
        id=strawberry.ID(document["id"]),
        code=document["code"],
        reason=document["reason"],
        state=document["state"],
        signature=document["signature"],
        run_id=document["run_id"],
        at=document["time"],
    )


def _schedule(document: Mapping[str, Any]) -> Schedule:
    return Schedule(
        id=strawberry.ID(document["id"]),
        project=document["project"],
        paused=document["paused"],
        next=document["next"],
        fired=document["fired"],
        document=document["schedule"],
    )


class _Schema(strawberry.Schema):
    """A schema whose unexpected errors tell callers no more than the routes of `/v1` do."""

    def process_errors(self, errors: list[GraphQLError], execution_context: Any = None) -> None:
        for error in errors:
            if error.original_error is not None:
                refusal = refusal_of(error.original_error)
                error.message = refusal.detail
                error.extensions = {"code": refusal.code, "status": refusal.status}
        super().process_errors([each for each in errors if (each.extensions or {}).get("status") == 500])


SCHEMA = _Schema(
    query=Query,
    extensions=[
        lambda: QueryDepthLimiter(max_depth=MAX_DEPTH),
        lambda: MaxAliasesLimiter(max_alias_count=MAX_ALIASES),
        lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
        CostLimit,
    ],
)
