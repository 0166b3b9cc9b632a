"""Takes `POST /v1/runs` straight to its function: the way through router and dependencies costs as much processor
time as all of a submit. The route itself stays in the router, which describes it.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from anabranch_gateway.api import runs
from anabranch_gateway.http.problems import Handler

PATH = "/v1/runs"


class SubmitFastPath:
    """See the module.

    Args:
        app: what answers everything else.
        handle: makes an answer of an error.
    """

    def __init__(self, app: ASGIApp, handle: Handler) -> None:
        self._app = app
        self._handle = handle
        self._route = _route()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        request = Request(scope, receive)
        try:
            response = await runs.submit(request)
        except Exception as error:  # noqa: BLE001 - each is an answer, as it is of every other route
            response = await self._handle(request, error)
        await response(scope, receive, send)


def _route() -> APIRoute:
    routes = (each for each in runs.router.routes if isinstance(each, APIRoute))
    return next(each for each in routes if each.endpoint is runs.submit)
