"""Routes: subscriptions to events, by webhook or Redis channel."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Request, Response
from pydantic import TypeAdapter, ValidationError

from anabranch.core.errors import Code
from anabranch.core.names import session_id_problem
from anabranch.core.project import project_problem
from anabranch.sdk.control import send_control
from anabranch_gateway.access.callers import Caller, Submitter, Viewer
from anabranch_gateway.access.ownership import owns
from anabranch_gateway.api.subscription_models import MAX_RULES, MAX_TYPES, AlertRuleBody, SubscriptionBody
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.request_body import read_object, text_field
from anabranch_gateway.http.responses import json_response
from anabranch_gateway.webhooks.alert_rules import AlertRule
from anabranch_gateway.webhooks.delivery import new_secret
from anabranch_gateway.webhooks.subscription import FORMATS, KINDS, Format, Kind, Subscription

router = APIRouter(prefix="/v1/subscriptions", tags=["subscriptions"])

MAX_PER_PROJECT = 200
_FIELDS = frozenset(SubscriptionBody.model_fields)
_TARGETS = {"webhook": "url", "channel": "channel", "notify": "target"}
_RULES: TypeAdapter[list[AlertRuleBody]] = TypeAdapter(list[AlertRuleBody])
IdPath = Annotated[str, Path(min_length=1, max_length=100)]


@router.get("")
async def subscriptions(context: WithContext, caller: Viewer) -> Response:
    """The subscriptions of the caller's projects."""
    found = [each for each in context.subscriptions.all.values() if caller.sees(each.project)]
    found.sort(key=lambda each: (each.created_at, each.id))
    return json_response({"subscriptions": [each.to_document() for each in found]})


@router.post("", status_code=201)
async def subscribe(request: Request, context: WithContext, caller: Submitter) -> Response:
    """Subscribe to events, or to alerts about them: by signed POST to a URL, on a Redis channel, or by a message.

    The secret is shown only in this response.
    """
    body = await read_object(request, context.parsing, _FIELDS)
    subscription = await _subscription(context, caller, body)
    if subscription.kind == "channel":
        await send_control(context.client.links, _control("subscribe", subscription))
    await context.subscriptions.put(subscription)
    context.audit.record(request, caller, "subscribe", project=subscription.project, detail=subscription.id)
    headers = {"location": f"/v1/subscriptions/{subscription.id}"}
    return json_response(subscription.to_document(with_secret=True), 201, headers)


@router.get("/{subscription_id}")
async def subscription(subscription_id: IdPath, context: WithContext, caller: Viewer) -> Response:
    """One subscription, without its secret."""
    return json_response(_find(context, caller, subscription_id).to_document())


@router.delete("/{subscription_id}", status_code=204)
async def unsubscribe(
    subscription_id: IdPath, request: Request, context: WithContext, caller: Submitter
) -> Response:
    """End a subscription. A submitter may end its own ones, an operator all of its projects."""
    found = _find(context, caller, subscription_id)
    if found.owner != caller.actor and not caller.has_role("operator"):
        raise Refusal(
            403,
            "forbidden",
            f"subscription {found.id} belongs to {found.owner}: only they or an operator may end it",
        )
    if found.kind == "channel":
        await send_control(context.client.links, _control("unsubscribe", found))
    await context.subscriptions.delete(found.id)
    context.audit.record(request, caller, "unsubscribe", project=found.project, detail=found.id)
    return Response(status_code=204)


def _find(context: GatewayContext, caller: Caller, subscription_id: str) -> Subscription:
    found = context.subscriptions.all.get(subscription_id)
    if found is None or not caller.sees(found.project):
        raise not_found(f"no such subscription: {subscription_id}")
    return found


async def _subscription(context: GatewayContext, caller: Caller, body: dict[str, Any]) -> Subscription:
    """The subscription that the body describes.

    Raises:
        Refusal: 403, the project is not the caller's, or they may not send messages to people; 404, there is no
            such run or session in it; 409, the project has too many subscriptions; 422, a field is invalid.
    """
    project = _project(caller, body)
    known = sum(each.project == project for each in context.subscriptions.all.values())
    if known >= MAX_PER_PROJECT:
        raise Refusal(
            409, "too_many", f"the project {project} has {known} subscriptions, the maximum: end some first"
        )
    kind = _kind(body)
    if kind == "notify" and not caller.has_role("operator"):
        raise Refusal(403, "forbidden", f"{caller.actor} is no operator: only operators send messages to people")
    target = _TARGET_READERS[kind](context, body)
    format, rules = _format(kind, body), _rules(kind, body)
    run_id, session_id = await _scope(context, caller, body, project)
    if kind == "channel" and run_id is None and session_id is None:
        raise _invalid("a channel needs run_id or session_id, whose events are forwarded")
    ids = context.client.links.ids
    return Subscription(
        id=ids.run_scoped(),
        kind=kind,
        target=target,
        types=_types(body),
        project=project,
        owner=caller.actor,
        created_at=context.client.links.clock.now(),
        run_id=run_id,
        session_id=session_id,
        secret=new_secret(context.random_bytes) if kind == "webhook" else None,
        format=format,
        rules=rules,
    )


def _project(caller: Caller, body: dict[str, Any]) -> str:
    project = text_field(body, "project", 128) or caller.default_project()
    if (problem := project_problem(project)) is not None:
        raise _invalid(f"project: {problem}")
    if not caller.sees(project):
        raise Refusal(403, "forbidden", f"{caller.actor} may not subscribe to the project {project}")
    return project


def _kind(body: dict[str, Any]) -> Kind:
    kind = next((each for each in KINDS if each == body.get("kind")), None)
    if kind is None:
        raise _invalid(f"kind must be {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    for other, field in _TARGETS.items():
        if other != kind and body.get(field) is not None:
            raise _invalid(f"a {kind} has no {field}")
    return kind


def _format(kind: Kind, body: dict[str, Any]) -> Format:
    format = next((each for each in FORMATS if each == body.get("format", "events")), None)
    if format is None:
        raise _invalid(f"format must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if kind != "webhook" and body.get("format") is not None:
        raise _invalid(f"a {kind} has no format")
    if (format != "events" or kind == "notify") and body.get("types") is not None:
        raise _invalid("alerts have no types: give rules, which name the types of events")
    return format


def _rules(kind: Kind, body: dict[str, Any]) -> tuple[AlertRule, ...]:
    """The rules of the body; none if it has none, which means the built-in ones."""
    rules = body.get("rules")
    if rules is None:
        return ()
    if kind == "channel" or (kind == "webhook" and body.get("format", "events") == "events"):
        raise _invalid("only alerts have rules: give format, or kind notify")
    if not isinstance(rules, list) or not 0 < len(rules) <= MAX_RULES:
        raise _invalid(f"rules must be a list of 1 to {MAX_RULES} rules")
    try:
        return tuple(each.rule() for each in _RULES.validate_python(rules))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = "/".join(str(each) for each in ("rules", *first["loc"]))
        raise _invalid(f"{path}: {first['msg']}") from error


def _types(body: dict[str, Any]) -> tuple[str, ...]:
    types = body.get("types")
    if types is None:
        return ("run.*",)
    if not isinstance(types, list) or len(types) > MAX_TYPES or not all(_is_type(each) for each in types):
        raise _invalid(f"types must be a list of up to {MAX_TYPES} event types, such as run.*")
    return tuple(types)


def _is_type(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 100


async def _scope(
    context: GatewayContext, caller: Caller, body: dict[str, Any], project: str
) -> tuple[str | None, str | None]:
    """The run id and session id of the subscription, which must belong to its project."""
    run, session_id = text_field(body, "run_id", 300), text_field(body, "session_id", 128)
    if run is not None:
        found = await context.lookup.find(caller, run)
        if found.project != project:
            raise not_found(f"no such run in the project {project}: {run}")
        run = found.run_id
    if session_id is not None:
        if (problem := session_id_problem(session_id)) is not None:
            raise _invalid(f"session_id: {problem}")
        if not await owns(context.client.store, context.client.names, session_id, project):
            hint = "a session belongs to the project whose request named it first"
            raise not_found(f"no such session in the project {project}: {session_id}", hint)
    return run, session_id


def _url(context: GatewayContext, body: dict[str, Any]) -> str:
    url = text_field(body, "url")
    if url is None:
        raise _invalid("url is missing: give the URL to which events are sent")
    try:
        split = urlsplit(url)
        # `urlsplit` checks the port only when it is read.
        _ = split.port
    except ValueError as error:
        raise _invalid(f"url is not a URL: {error}") from error
    if split.scheme not in ("http", "https") or not split.hostname or split.username is not None:
        raise _invalid("url must be an http or https URL with a host, without user and password")
    if not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
        raise _invalid("url: percent-encode all characters other than printable ASCII")
    if (reason := _refused_address(context, split.hostname)) is not None:
        raise _invalid(f"url: {reason}")
    return url


def _refused_address(context: GatewayContext, host: str) -> str | None:
    """Why an IP address is not allowed as a target; None for a host name, which is resolved and checked at
    delivery."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return context.allow_list.refusal(host, str(address))


def _channel(context: GatewayContext, body: dict[str, Any]) -> str:
    channel = text_field(body, "channel", 255)
    if channel is None:
        raise _invalid("channel is missing: give the Redis channel to forward events to")
    if (problem := context.client.names.subscriber_channel_problem(channel)) is not None:
        raise _invalid(f"channel: {problem}")
    return channel


def _service(context: GatewayContext, body: dict[str, Any]) -> str:
    name = text_field(body, "target", 255)
    known = context.notifications.names
    if name not in known:
        names = ", ".join(known) or "none: the setting gateway_notify names no file"
        raise _invalid(f"target must be a service of the gateway's configuration, which has {names}")
    return name


_TARGET_READERS: Mapping[Kind, Callable[[GatewayContext, dict[str, Any]], str]] = {
    "webhook": _url,
    "channel": _channel,
    "notify": _service,
}


def _control(action: str, subscription: Subscription) -> dict[str, Any]:
    return {
        "type": action,
        "run_id": subscription.run_id,
        "session_id": None if subscription.run_id else subscription.session_id,
        "types": list(subscription.types) if action == "subscribe" else None,
        "channel": subscription.target,
        "project": subscription.project,
    }


def _invalid(detail: str) -> Refusal:
    return Refusal(422, str(Code.SCHEMA), detail)
