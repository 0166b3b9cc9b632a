"""Converts views, plans and final records into the documents of the API. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from anabranch.core.costs import costs_in
from anabranch.core.errors import RequestRefused
from anabranch.core.progress import share_of_run
from anabranch.core.request.admission import ValidationResult
from anabranch.core.request.planning import Plan, refused_document
from anabranch.core.templates import RenderBudget
from anabranch.core.wire.run_view import RunView, member_counts
from anabranch.sdk.run_result import RunResult, no_executions, origin_of
from anabranch_gateway.http.responses import encode

Document = dict[str, Any]


def summary(view: RunView) -> Document:
    """A run in a list: its view without the groups, but with counts."""
    document = replace(view, groups={}, failures=[], workers=[], counts=None).to_document()
    for name in ("groups", "failures", "workers"):
        del document[name]
    return document | {"counts": counts(view)}


def counts(view: RunView) -> Document:
    """The numbers of groups, tasks and members of a view, also of one from the history, which has no groups."""
    if view.counts is not None:
        return view.counts | {"share": view.share}
    return {**member_counts(view), "share": share_of_run(view)}


def links(run_id: str) -> dict[str, str]:
    """The URLs of a run's other documents."""
    base = f"/v1/runs/{run_id}"
    return {"self": base, **{name: f"{base}/{name}" for name in ("events", "result", "graph")}}


def edges_of(plan: Plan) -> Iterator[list[int]]:
    """The dependencies of a plan as `[from, to]` indexes into its tasks: `to` needs a result of `from`."""
    indexes = {(task.group, task.name): index for index, task in enumerate(plan.tasks)}
    for index, task in enumerate(plan.tasks):
        producers = {indexes[need.producer] for need in task.needs if need.producer is not None}
        yield from ([producer, index] for producer in sorted(producers))


def outcome(body: Mapping[str, Any], results: Mapping[str, Any], warnings: Sequence[str] = ()) -> Document:
    """The document of `run --json` from a final record; large values stay references."""
    executions = body.get("executions") or no_executions()
    return RunResult(
        run_id=str(body.get("run_id") or ""),
        request_id=str(body.get("request_id") or ""),
        session_id=str(body.get("session_id") or ""),
        status=body["status"],
        results=results,
        failures=tuple(body.get("failures") or ()),
        executions={name: executions.get(name, 0) for name in no_executions()},
        warnings=tuple(dict.fromkeys([*warnings, *(body.get("warnings") or ())])),
        duration_seconds=float(body.get("duration_seconds") or 0.0),
        retry_of=body.get("retry_of"),
        taken_over=int(body.get("taken_over") or 0),
        skipped=tuple(body.get("skipped") or ()),
        handled_failures=int(body.get("handled_failures") or 0),
        stopped_by=body.get("stopped_by"),
        origin=origin_of(body),
        costs=costs_in(body),
    ).to_document()


MAX_SHOWN = 2_000
"""Maximum members of one task that a plan over HTTP lists."""
MAX_PLANNED = 16_000_000
"""Maximum characters of all members in a plan over HTTP."""


def plan_body(validation: ValidationResult, *, expand: bool) -> bytes:
    """The encoded document of `plan --json` with its edges; of a wide task it lists only the first members that
    fit."""
    edges = [] if validation.plan is None else list(edges_of(validation.plan))
    budget = RenderBudget(MAX_PLANNED)
    return encode(validation.to_document(expand=expand, limit=MAX_SHOWN, budget=budget) | {"edges": edges})


def unparsable_plan(refusal: RequestRefused, size: int) -> Document:
    """The plan of a body that is neither JSON nor YAML."""
    document = refused_document(refusal.errors, refusal.warnings, task_groups=0, tasks=0, document_bytes=size)
    return document | {"edges": []}
