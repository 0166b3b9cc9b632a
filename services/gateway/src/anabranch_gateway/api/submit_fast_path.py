"""Middleware that calls the function of `POST /v1/runs` directly.

FastAPI's routing and dependency injection would take as much processor time as all other work of a submit. The
route stays in the router too, for OpenAPI.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from anabranch_gateway.api import runs
from anabranch_gateway.http.problems import Handler

PATH = "/v1/runs"


class SubmitFastPath:
    """Bypasses the router for submits.

    Args:
        app: the application for all other requests.
        handle: turns an error into its response.
    """

    def __init__(self, app: ASGIApp, handle: Handler) -> None:
        self._app = app
        self._handle = handle
        self._route = _route()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        # Metrics and audit log read the route, which the router would have set.
        scope["route"] = self._route
        request = Request(scope, receive)
        try:
            response = await runs.submit(request)
        except Exception as error:  # noqa: BLE001 - the handler answers every error, as for other routes
            response = await self._handle(request, error)
        await response(scope, receive, send)


def _route() -> APIRoute:
    routes = (each for each in runs.router.routes if isinstance(each, APIRoute))
    return next(each for each in routes if each.endpoint is runs.submit)
