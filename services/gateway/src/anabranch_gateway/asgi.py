"""Creates the ASGI application: middleware, routes, error handlers, the dashboard's files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

import anabranch
from anabranch.ports import Telemetry
from anabranch.runtime.process.health import EXPOSITION, Health
from anabranch_gateway.access.audit import UNKNOWN_CALLER, AuditLog
from anabranch_gateway.access.authenticators import hosts_of
from anabranch_gateway.access.callers import OpenAuthenticator, Viewer
from anabranch_gateway.api import (
    contexts,
    dead_letters,
    definitions,
    executions,
    graphql,
    limits,
    logs,
    members,
    published_events,
    run_changes,
    run_events,
    runs,
    schedules,
    subscriptions,
    system,
    task_projects,
    tasks,
    waits,
)
from anabranch_gateway.api.openapi import describe
from anabranch_gateway.api.submit_fast_path import SubmitFastPath
from anabranch_gateway.context import GatewayContext
from anabranch_gateway.http import problems
from anabranch_gateway.http.hosts import Hosts
from anabranch_gateway.http.metrics import RequestMetrics
from anabranch_gateway.http.problems import Handler, Refusal, not_found
from anabranch_gateway.http.responses import json_response
from anabranch_gateway.http.same_origin import SameOrigin
from anabranch_gateway.http.wellformed import Nosniff, WellFormed

DASHBOARD = Path(__file__).parent / "dashboard"
_SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self'; object-src 'none'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'self'"
    ),
    "referrer-policy": "no-referrer",
    # Browsers ask for each file again by its ETag, so no page runs old scripts after an upgrade.
    "cache-control": "no-cache",
}


def create_app(context: GatewayContext, telemetry: Telemetry) -> FastAPI:
    """The application that serves this context."""
    handle = problems.handler(partial(_audit_refusal, context.audit))
    hosts = hosts_of(context.settings, context.authenticator)
    app = _Application(
        middleware=partial(_add_middleware, context, telemetry, handle, hosts),
        title="Anabranch",
        version=anabranch.__version__,
        description="Submit requests, follow runs, and control them.",
        # FastAPI's documentation pages load scripts from a foreign host, which the security headers forbid.
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    app.state.authenticator = context.authenticator
    problems.add_handlers(app, handle)
    for module in (
        runs,
        run_events,
        members,
        contexts,
        logs,
        run_changes,
        dead_letters,
        executions,
        subscriptions,
        definitions,
        schedules,
        published_events,
        limits,
        system,
        waits,
        graphql,
        tasks,
        task_projects,
    ):
        app.include_router(module.router)
    _add_pages(app)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


class _Application(FastAPI):
    """FastAPI inside plain ASGI middleware, which takes far less time for a request than FastAPI's own."""

    def __init__(self, middleware: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._add_middleware = middleware

    def build_middleware_stack(self) -> ASGIApp:
        return self._add_middleware(super().build_middleware_stack())


def _add_middleware(
    context: GatewayContext, telemetry: Telemetry, handle: Handler, hosts: Hosts | None, app: ASGIApp
) -> ASGIApp:
    """Wraps the application in its middleware.

    A request passes it in reverse order: the last one added is first.
    """
    app = SubmitFastPath(app, handle)
    settings = context.settings
    # With credentials no check is needed: a browser adds no `Authorization` header to a foreign page's request.
    if isinstance(context.authenticator, OpenAuthenticator):
        app = SameOrigin(app, settings.gateway_origins)
    app = WellFormed(app, hosts)
    if settings.gateway_origins:
        app = CORSMiddleware(
            app,
            allow_origins=list(settings.gateway_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "prefer", "last-event-id"],
            expose_headers=["location", "preference-applied", "retry-after"],
        )
    app = RequestMetrics(app, telemetry, context.client.links.clock) if telemetry.measures else app
    # The outermost one, so that refusals of the other middleware have the header too.
    return Nosniff(app)


def _audit_refusal(audit: AuditLog, request: Request, refusal: Refusal) -> None:
    """Record a refused call in the audit log if it would have changed something, or was forbidden."""
    if request.method in ("GET", "HEAD") and refusal.status != 403:
        return
    caller = getattr(request.state, "caller", UNKNOWN_CALLER)
    route = request.scope.get("route")
    action = getattr(route, "name", None) or f"{request.method} {request.url.path[:200]}"
    run = request.scope.get("path_params", {}).get("run")
    audit.record(request, caller, action, run_id=run, outcome="refused", detail=refusal.code)


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = describe(app)
    return app.openapi_schema


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def dashboard() -> Response:
        return FileResponse(DASHBOARD / "index.html", headers=_SECURITY_HEADERS)

    # Listed once at the start: a path that is only looked up in this table cannot leave the folder.
    root = DASHBOARD / "assets"
    assets = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.is_file()}

    @app.get("/assets/{path:path}", include_in_schema=False)
    async def asset(path: str) -> Response:
        if (file := assets.get(path)) is None:
            raise not_found("no such file")
        return FileResponse(file, headers=_SECURITY_HEADERS)


def add_health(app: FastAPI, report: Callable[[], Health]) -> None:
    """Add `/livez` and `/readyz`, for probes on the port of the API."""

    async def probe(request: Request) -> Response:
        health: Health = report()
        passed = health.live if request.url.path == "/livez" else health.live and health.ready
        body = {"service": "gateway", "live": health.live, "ready": health.ready, "detail": health.detail}
        return json_response(body, 200 if passed else 503)

    for path in ("/livez", "/readyz"):
        app.add_api_route(path, probe, methods=["GET"], include_in_schema=False)


def add_metrics(app: FastAPI, telemetry: Telemetry) -> None:
    """Add `/metrics` in Prometheus format. It requires a credential, because this port may be open to everyone."""

    @app.get("/metrics", include_in_schema=False)
    async def metrics(caller: Viewer) -> Response:
        # In a thread: with many series the text takes too long to build for the event loop.
        return Response(await asyncio.to_thread(telemetry.exposition), media_type=EXPOSITION)
