"""Routes: subscriptions to events, as webhooks and as Redis channels."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Request, Response

from anabranch.core.errors import Code
from anabranch.core.names import session_id_problem
from anabranch.core.project import project_problem
from anabranch.sdk.control import send_control
from anabranch_gateway.access.auth import Caller, Submitter, Viewer
from anabranch_gateway.access.ownership import owns
from anabranch_gateway.context import GatewayContext, WithParts
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.request_body import read_object, text_field
from anabranch_gateway.http.responses import answer
from anabranch_gateway.runs.lookup import find
from anabranch_gateway.webhooks.webhooks import Kind, Subscription, new_secret

router = APIRouter(prefix="/v1/subscriptions", tags=["subscriptions"])

MAX_OF_A_PROJECT = 200
MAX_TYPES = 50
_FIELDS = frozenset({"kind", "url", "channel", "types", "run_id", "session_id", "project"})
IdPath = Annotated[str, Path(min_length=1, max_length=100)]


@router.get("")
async def subscriptions(parts: WithParts, caller: Viewer) -> Response:
    """The subscriptions of the caller's projects."""
    found = [each for each in parts.subscriptions.all.values() if caller.sees(each.project)]
    found.sort(key=lambda each: (each.created_at, each.id))
    return answer({"subscriptions": [each.to_document() for each in found]})


@router.post("", status_code=201)
async def subscribe(request: Request, parts: WithParts, caller: Submitter) -> Response:
    """Have events sent: to a URL, signed, or to a Redis channel. The secret of a webhook is shown only now."""
    body = await read_object(request, _FIELDS)
    subscription = await _subscription(parts, caller, body)
    if subscription.kind == "channel":
        await send_control(parts.client.links, _control("subscribe", subscription))
    await parts.subscriptions.put(subscription)
    parts.audit.note(request, caller, "subscribe", project=subscription.project, detail=subscription.id)
    headers = {"location": f"/v1/subscriptions/{subscription.id}"}
    return answer(subscription.to_document(with_secret=True), 201, headers)


@router.get("/{subscription_id}")
async def subscription(subscription_id: IdPath, parts: WithParts, caller: Viewer) -> Response:
    """One subscription, without its secret."""
    return answer(_find(parts, caller, subscription_id).to_document())


@router.delete("/{subscription_id}", status_code=204)
async def unsubscribe(subscription_id: IdPath, request: Request, parts: WithParts, caller: Submitter) -> Response:
    """End a subscription: one's own, or as an operator any of one's projects."""
    found = _find(parts, caller, subscription_id)
    if found.owner != caller.actor and not caller.may("operator"):
        raise Refusal(403, "forbidden", f"subscription {found.id} is {found.owner}'s: an operator may end it")
    if found.kind == "channel":
        await send_control(parts.client.links, _control("unsubscribe", found))
    await parts.subscriptions.delete(found.id)
    parts.audit.note(request, caller, "unsubscribe", project=found.project, detail=found.id)
    return Response(status_code=204)


def _find(parts: GatewayContext, caller: Caller, subscription_id: str) -> Subscription:
    found = parts.subscriptions.all.get(subscription_id)
    if found is None or not caller.sees(found.project):
        raise not_found(f"no such subscription: {subscription_id}")
    return found


async def _subscription(parts: GatewayContext, caller: Caller, body: dict[str, Any]) -> Subscription:
    """What the body asks for.

    Raises:
        Refusal: 403, 404, 409, 422.
    """
    project = _project(caller, body)
    known = sum(each.project == project for each in parts.subscriptions.all.values())
    if known >= MAX_OF_A_PROJECT:
        raise Refusal(409, "too_many", f"the project {project} has {known} subscriptions: end some")
    kind = _kind(body)
    target = _url(parts, body) if kind == "webhook" else _channel(parts, body)
    run_id, session_id = await _scope(parts, caller, body, project)
    if kind == "channel" and run_id is None and session_id is None:
        raise _wrong("a channel needs run_id or session_id: what to forward")
    ids = parts.client.links.ids
    return Subscription(
        id=ids.run_scoped(),
        kind=kind,
        target=target,
        types=_types(body),
        project=project,
        owner=caller.actor,
        created_at=parts.client.links.clock.now(),
        run_id=run_id,
        session_id=session_id,
        secret=new_secret(parts.random_bytes) if kind == "webhook" else None,
    )


def _project(caller: Caller, body: dict[str, Any]) -> str:
    project = text_field(body, "project", 128) or caller.default_project()
    if (problem := project_problem(project)) is not None:
        raise _wrong(f"project: {problem}")
    if not caller.sees(project):
        raise Refusal(403, "forbidden", f"{caller.actor} may not subscribe to the project {project}")
    return project


def _kind(body: dict[str, Any]) -> Kind:
    kind = body.get("kind")
    if kind not in ("webhook", "channel"):
        raise _wrong("kind is neither webhook nor channel")
    other = "channel" if kind == "webhook" else "url"
    if body.get(other) is not None:
        raise _wrong(f"a {kind} has no {other}")
    return "webhook" if kind == "webhook" else "channel"


def _types(body: dict[str, Any]) -> tuple[str, ...]:
    types = body.get("types")
    if types is None:
        return ("run.*",)
    if not isinstance(types, list) or len(types) > MAX_TYPES or not all(_is_type(each) for each in types):
        raise _wrong(f"types is no list of up to {MAX_TYPES} event types, such as run.*")
    return tuple(types)


def _is_type(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 100


async def _scope(
    parts: GatewayContext, caller: Caller, body: dict[str, Any], project: str
) -> tuple[str | None, str | None]:
    """The run or session that is meant, which has to be of the subscription's project."""
    run, session_id = text_field(body, "run_id", 300), text_field(body, "session_id", 128)
    if run is not None:
        found = await find(parts, caller, run)
        if found.project != project:
            raise not_found(f"no such run in the project {project}: {run}")
        run = found.run_id
    if session_id is not None:
        if (problem := session_id_problem(session_id)) is not None:
            raise _wrong(f"session_id: {problem}")
        if not await owns(parts.client.store, parts.client.names, session_id, project):
            hint = "a session belongs to the project whose request named it first"
            raise not_found(f"no such session in the project {project}: {session_id}", hint)
    return run, session_id


def _url(parts: GatewayContext, body: dict[str, Any]) -> str:
    url = text_field(body, "url")
    if url is None:
        raise _wrong("url is missing: where events are sent to")
    try:
        split = urlsplit(url)
        _ = split.port
    except ValueError as error:
        raise _wrong(f"url is none: {error}") from error
    if split.scheme not in ("http", "https") or not split.hostname or split.username is not None:
        raise _wrong("url is no http or https URL with a host, without user and password")
    if not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
        raise _wrong("url: percent-encode what is no printable ASCII")
    if (reason := _refused_address(parts, split.hostname)) is not None:
        raise _wrong(f"url: {reason}")
    return url


def _refused_address(parts: GatewayContext, host: str) -> str | None:
    """Why an address may not be sent to; a name is looked up, and judged, at each delivery."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return parts.allow.refusal(host, str(address))


def _channel(parts: GatewayContext, body: dict[str, Any]) -> str:
    channel = text_field(body, "channel", 255)
    if channel is None:
        raise _wrong("channel is missing: give the Redis channel to forward events to")
    if (problem := parts.client.names.subscriber_channel_problem(channel)) is not None:
        raise _wrong(f"channel: {problem}")
    return channel


def _control(action: str, subscription: Subscription) -> dict[str, Any]:
    return {
        "type": action,
        "run_id": subscription.run_id,
        "session_id": None if subscription.run_id else subscription.session_id,
        "types": list(subscription.types) if action == "subscribe" else None,
        "channel": subscription.target,
        "project": subscription.project,
    }


def _wrong(detail: str) -> Refusal:
    return Refusal(422, str(Code.SCHEMA), detail)
