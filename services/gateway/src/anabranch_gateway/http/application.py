"""The ASGI application: routes, errors, the dashboard's files. Made by a function; nothing is made at import."""

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
from anabranch_gateway.access.audit import NOBODY, Audit
from anabranch_gateway.access.auth import OpenAuthenticator, Viewer
from anabranch_gateway.access.authenticators import SameOrigin, hosts_of
from anabranch_gateway.access.hosts import Hosts
from anabranch_gateway.api import contexts, dead_letters, feed, logs, members, runs, streams, subscriptions, system
from anabranch_gateway.api.openapi import describe
from anabranch_gateway.context import GatewayContext
from anabranch_gateway.http import problems
from anabranch_gateway.http.metrics import RequestMetrics
from anabranch_gateway.http.problems import Handler, Refusal, not_found
from anabranch_gateway.http.responses import answer
from anabranch_gateway.http.submit_fast_path import SubmitFastPath
from anabranch_gateway.http.wellformed import Nosniff, WellFormed

DASHBOARD = Path(__file__).parents[1] / "dashboard"
_SAFE = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self'; object-src 'none'; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'self'"
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def create_app(parts: GatewayContext, telemetry: Telemetry) -> FastAPI:
    """The application over these parts."""
    handle = problems.handler(partial(_note_refused, parts.audit))
    hosts = hosts_of(parts.settings, parts.guard)
    app = _Application(
        doors=partial(_doors, parts, telemetry, handle, hosts),
        title="Anabranch",
        version=anabranch.__version__,
        description="Submit requests, follow runs, act on them.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.parts = parts
    problems.add_handlers(app, handle)
    for module in (runs, streams, members, contexts, logs, feed, dead_letters, subscriptions, system):
        app.include_router(module.router)
    _add_pages(app)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


class _Application(FastAPI):
    """FastAPI behind doors of our own: plain ASGI, which costs next to nothing for each request."""

    def __init__(self, doors: Callable[[ASGIApp], ASGIApp], **described: Any) -> None:
        super().__init__(**described)
        self._doors = doors

    def build_middleware_stack(self) -> ASGIApp:
        return self._doors(super().build_middleware_stack())


def _doors(
    parts: GatewayContext, telemetry: Telemetry, handle: Handler, hosts: Hosts | None, app: ASGIApp
) -> ASGIApp:
    """What a request passes before it is routed; the last one is the first that it meets."""
    app = SubmitFastPath(app, handle)
    settings = parts.settings
    if isinstance(parts.guard, OpenAuthenticator):
        app = SameOrigin(app, settings.gateway_origins)
    app = WellFormed(app, hosts)
    if settings.gateway_origins:
        app = CORSMiddleware(
            app,
            allow_origins=list(settings.gateway_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "prefer", "last-event-id"],
            expose_headers=["location", "preference-applied", "retry-after"],
        )
    app = RequestMetrics(app, telemetry, parts.client.links.clock) if telemetry.measures else app
    return Nosniff(app)


def _note_refused(audit: Audit, request: Request, refusal: Refusal) -> None:
    """What was refused is in the audit log where it would have changed something, or was not allowed."""
    if request.method in ("GET", "HEAD") and refusal.status != 403:
        return
    caller = getattr(request.state, "caller", NOBODY)
    route = request.scope.get("route")
    action = getattr(route, "name", None) or f"{request.method} {request.url.path[:200]}"
    run = request.scope.get("path_params", {}).get("run")
    audit.note(request, caller, action, run_id=run, outcome="refused", detail=refusal.code)


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = describe(app)
    return app.openapi_schema


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def dashboard() -> Response:
        return FileResponse(DASHBOARD / "index.html", headers=_SAFE)

    root = DASHBOARD / "assets"
    assets = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.is_file()}

    @app.get("/assets/{path:path}", include_in_schema=False)
    async def asset(path: str) -> Response:
        if (file := assets.get(path)) is None:
            raise not_found("there is no such file")
        return FileResponse(file, headers=_SAFE)


def add_health(app: FastAPI, report: Callable[[], Health]) -> None:
    """`/livez` and `/readyz` for probes that come by the same port."""

    async def probe(request: Request) -> Response:
        health: Health = report()
        passed = health.live if request.url.path == "/livez" else health.live and health.ready
        body = {"service": "gateway", "live": health.live, "ready": health.ready, "detail": health.detail}
        return answer(body, 200 if passed else 503)

    for path in ("/livez", "/readyz"):
        app.add_api_route(path, probe, methods=["GET"], include_in_schema=False)


def add_metrics(app: FastAPI, telemetry: Telemetry) -> None:
    """`/metrics` as Prometheus reads it. Unlike a health port this one may be anybody's, so it asks who calls."""

    @app.get("/metrics", include_in_schema=False)
    async def metrics(caller: Viewer) -> Response:
        return Response(await asyncio.to_thread(telemetry.exposition), media_type=EXPOSITION)
