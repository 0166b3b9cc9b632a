"""Puts the parts of the gateway together; see `anabranch.compose` for whoever starts one."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial

from anabranch.core.request.admission import Limits
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.streams import standard_error
from anabranch.sdk.client import Client
from anabranch.sdk.http_agent import HttpCall, send
from anabranch.sdk.http_policy import AllowList
from anabranch_gateway.access.audit import Audit
from anabranch_gateway.access.authenticators import guard_of
from anabranch_gateway.access.project_cache import RunProjects
from anabranch_gateway.context import Examine, GatewayContext
from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.events.changes import Changes
from anabranch_gateway.http.application import add_health, add_metrics, create_app
from anabranch_gateway.http.parsing import ParsingPool
from anabranch_gateway.runs.dead_letter_cache import DeadLetterCache
from anabranch_gateway.runs.pending import PendingRuns
from anabranch_gateway.runs.projection_cache import ProjectionCache
from anabranch_gateway.runs.requests import Requests
from anabranch_gateway.service import GatewayService
from anabranch_gateway.system_status import SystemStatus
from anabranch_gateway.webhooks.dispatcher import WebhookDispatcher
from anabranch_gateway.webhooks.subscriptions import SubscriptionRegistry

WEBHOOK_SECONDS = 10.0
WEBHOOK_ANSWER_BYTES = 100_000


def build(
    resources: Resources,
    agents: Collection[str] | None = None,
    examine: Examine | None = None,
    announce: Callable[[str], None] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> GatewayService:
    """The gateway on any adapters.

    Args:
        agents: names that a request may use; None where that is not known.
        examine: answers why a run does not end; without it that question is not answered.
        announce: told the address once it is served; without it standard error is.
        environ: where `ANABRANCH_HTTP_ALLOW` is looked up: where webhooks may be sent.

    Raises:
        Misconfigured: open to everybody beyond this machine without being told to; keys that cannot be read.
    """
    settings, clock = resources.settings, resources.clock
    limits = Limits(settings.request_limit, settings.members_limit, settings.inline_limit)
    client = Client.over(
        resources.log, resources.store, resources.notifier, resources.names, clock, resources.ids, limits
    )
    live = EventBroadcaster(resources.log, resources.names)
    allow = AllowList.parse(environ.get("ANABRANCH_HTTP_ALLOW", ""))
    projects = RunProjects(client)
    subscriptions = SubscriptionRegistry(resources.log, resources.names.webhooks)
    parts = GatewayContext(
        client=client,
        settings=settings,
        limits=limits,
        agents=agents,
        guard=guard_of(settings, clock),
        audit=Audit(resources.log, resources.names.audit, clock),
        live=live,
        recent=PendingRuns(clock),
        requests=Requests(client),
        folds=ProjectionCache(live),
        letters=DeadLetterCache(client, projects),
        changes=Changes(live, client),
        survey=SystemStatus(client, settings.prefix, clock),
        subscriptions=subscriptions,
        deliverer=WebhookDispatcher(
            client, live, subscriptions, projects, partial(_post, allow), resources.telemetry
        ),
        parsing=ParsingPool(),
        allow=allow,
        random_bytes=os.urandom,
        examine=examine,
    )
    app = create_app(parts, resources.telemetry)
    service = GatewayService(app, parts, resources.supervisor, announce or _say)
    add_health(app, service.health)
    add_metrics(app, resources.telemetry)
    return service


def _post(allow: AllowList, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a webhook; see `delivering.Post`."""
    send(HttpCall(url, "POST", headers, body, WEBHOOK_SECONDS, WEBHOOK_ANSWER_BYTES), allow)


def _say(url: str) -> None:
    standard_error().write(f"Dashboard and API: {url}\n")
    standard_error().flush()
