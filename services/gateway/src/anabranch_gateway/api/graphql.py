"""Route: the read-only GraphQL API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from anabranch.core.errors import Code, Misconfigured
from anabranch.runtime.process.extras import needs_extra
from anabranch_gateway.access.callers import Viewer
from anabranch_gateway.context import WithContext
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.http.request_body import read_object, text_field
from anabranch_gateway.http.responses import json_response

if TYPE_CHECKING:
    from strawberry import Schema

router = APIRouter(prefix="/graphql", tags=["graphql"])

MAX_QUERY = 50_000
_FIELDS = frozenset({"query", "variables", "operationName"})


@router.get("")
async def schema(_: Viewer) -> Response:
    """The schema in the schema definition language."""
    return Response(_schema().as_str(), media_type="text/plain")


@router.post("")
async def query(request: Request, context: WithContext, caller: Viewer) -> Response:
    """Answer a query. Errors of the query are in the response, which is 200 then too."""
    body = await read_object(request, context.parsing, _FIELDS)
    text = text_field(body, "query", MAX_QUERY)
    if text is None:
        raise Refusal(422, str(Code.SCHEMA), "query is missing: send {query, variables, operationName}")
    variables = body.get("variables")
    if variables is not None and not isinstance(variables, dict):
        raise Refusal(422, str(Code.SCHEMA), "variables must be an object")
    found = _schema()
    from anabranch_gateway.graphql.schema import QueryContext

    result = await found.execute(
        text,
        variable_values=variables,
        context_value=QueryContext(context, caller),
        operation_name=text_field(body, "operationName", 200),
    )
    document: dict[str, Any] = {"data": result.data}
    if result.errors:
        document["errors"] = [each.formatted for each in result.errors]
    return json_response(document)


def _schema() -> Schema:
    """The schema. Imported on use: the library is an extra. Raises Refusal 501 if it is missing."""
    try:
        with needs_extra("graphql", "the GraphQL API"):
            from anabranch_gateway.graphql.schema import SCHEMA
    except Misconfigured as error:
        raise Refusal(501, "not_available", str(error)) from error
    return SCHEMA
