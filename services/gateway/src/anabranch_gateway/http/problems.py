"""RFC 9457 problem documents for every error response: one form, with the contract's error codes.

`{type, title, status, detail, instance, code, errors?}`. Raise `Refusal`; the handlers here turn it, and the
errors of the layers below, into responses. A traceback goes to the log only, never into a response.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from anabranch.core.errors import (
    Code,
    Misconfigured,
    Problem,
    RecordTooLarge,
    RequestRefused,
    ServerUnavailable,
    StoreRefused,
    ValueGone,
)
from anabranch.core.request.envelope import json_pointer
from anabranch.core.tasks.dependencies import CircularDependencyError
from anabranch.core.tasks.errors import TaskNotFound, TaskRefused, TaskStateError

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger("anabranch.gateway")

_STATUS_OF_CODE = {
    Code.REQUEST_ID_CONFLICT: 409,
    Code.NOT_RETRYABLE: 409,
    Code.SESSION_OF_ANOTHER_PROJECT: 409,
    Code.TOO_LARGE: 413,
}


class Refusal(Exception):
    """An error response. `code` is stable; `detail` says what happened and what to do about it."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.more = dict(more or {})
        """Further fields of the problem document."""
        super().__init__(status, code, detail)


def not_found(what: str, hint: str = "") -> Refusal:
    """A 404 for something that does not exist or that the caller may not see: the response must not differ."""
    return Refusal(404, "not_found", f"{what}{f': {hint}' if hint else ''}")


def request_refusal(refusal: RequestRefused) -> Refusal:
    """The response to an invalid request, with all of its errors. The first error decides the HTTP status."""
    first = refusal.errors[0]
    status = _STATUS_OF_CODE.get(Code(first.code), 422) if first.code in set(Code) else 422
    count = "1 error" if len(refusal.errors) == 1 else f"{len(refusal.errors)} errors"
    return Refusal(
        status, str(first.code), f"the request was refused, {count}: {first.message}", errors=refusal.errors
    )


def document(refusal: Refusal, instance: str) -> dict[str, Any]:
    """The body of a refusal; `instance` is the path of the request."""
    body: dict[str, Any] = {
        "type": f"urn:anabranch:problem:{refusal.code}",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.detail,
        "instance": instance,
        "code": refusal.code,
    }
    body |= refusal.more
    if refusal.errors:
        body["errors"] = [error.to_document() for error in refusal.errors]
    return body


def response(refusal: Refusal, instance: str) -> Response:
    """The HTTP response of a refusal; `instance` is the path of the request."""
    return Response(
        orjson.dumps(document(refusal, instance)),
        status_code=refusal.status,
        media_type=MEDIA_TYPE,
        headers=refusal.headers,
    )


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a refusal; a WebSocket gets it as the response to its handshake if the server supports that."""
    sent = response(refusal, scope["path"][:300])
    if scope["type"] == "http":
        await sent(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        start = {"type": "websocket.http.response.start", "status": refusal.status, "headers": sent.raw_headers}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": bytes(sent.body)})
    else:
        # Servers without that extension can only close the connection, which the client sees as status 403.
        await send({"type": "websocket.close", "code": 4_000 + refusal.status, "reason": refusal.detail[:120]})


def refusal_of(error: Exception) -> Refusal:
    """The refusal for any error that a route raises; 500 for an error that no layer below documents."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RequestRefused):
        return request_refusal(error)
    if isinstance(error, TaskNotFound | TaskStateError | TaskRefused | CircularDependencyError):
        return _of_tasks(error)
    if isinstance(error, ServerUnavailable | StoreRefused):
        return Refusal(503, "unavailable", str(error), headers={"retry-after": "1"})
    if isinstance(error, ValueGone):
        return Refusal(410, "value_gone", str(error))
    if isinstance(error, RecordTooLarge):
        return Refusal(413, str(Code.TOO_LARGE), str(error))
    if isinstance(error, Misconfigured):
        # The operations of the command line raise it for a run or dead letter that does not exist.
        return Refusal(404, "not_found", str(error))
    if isinstance(error, RequestValidationError):
        detail = "a parameter is invalid: see errors"
        return Refusal(422, str(Code.SCHEMA), detail, errors=list(_parameter_errors(error)))
    if isinstance(error, HTTPException):
        return _of_framework(error)
    return Refusal(500, "internal", "internal error of the gateway: its log has the traceback")


Handler = Callable[[Request, Exception], Awaitable[Response]]


def handler(on_refused: Callable[[Request, Refusal], None]) -> Handler:
    """Returns a handler that turns an error into its response, after it called `on_refused`."""

    async def handle(request: Request, error: Exception) -> Response:
        refusal = refusal_of(error)
        # Only bugs are logged: any client can cause other refusals without end.
        if refusal.status == 500:
            _log.error(
                "the gateway failed to serve %s %s and answers 500",
                request.method,
                request.url.path,
                exc_info=error,
            )
        on_refused(request, refusal)
        return response(refusal, request.url.path)

    return handle


def add_handlers(app: FastAPI, handle: Handler) -> None:
    """Register the handler for all errors, so that each is answered with a problem document."""
    for kind in (
        Refusal,
        RequestRefused,
        ServerUnavailable,
        StoreRefused,
        ValueGone,
        RecordTooLarge,
        Misconfigured,
        TaskNotFound,
        TaskStateError,
        TaskRefused,
        CircularDependencyError,
        RequestValidationError,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, handle)


def _of_tasks(error: Exception) -> Refusal:
    if isinstance(error, TaskNotFound):
        return not_found(str(error))
    if isinstance(error, TaskStateError):
        return Refusal(409, "task_state", str(error))
    if isinstance(error, TaskRefused):
        problems = [Problem("task_refused", "", each) for each in error.problems]
        return Refusal(422, "task_refused", str(error), errors=problems)
    problem = Problem("circular_dependency", "/depends_on", str(error))
    return Refusal(422, problem.code, problem.message, errors=[problem])


def _of_framework(error: HTTPException) -> Refusal:
    codes = {404: "not_found", 405: "method_not_allowed", 413: str(Code.TOO_LARGE)}
    code = codes.get(error.status_code, "http_error")
    detail = "no route has this path: see /openapi.json" if error.status_code == 404 else str(error.detail)
    return Refusal(error.status_code, code, detail, headers=error.headers)


def _parameter_errors(error: RequestValidationError) -> list[Problem]:
    """One problem for each invalid parameter, with its location as the path: `/query/limit`."""
    return [
        Problem(str(Code.SCHEMA), json_pointer(tuple(each.get("loc", ()))), str(each.get("msg", "")))
        for each in error.errors()
    ]
