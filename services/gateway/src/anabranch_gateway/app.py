"""Builds the parts of the gateway and connects them; `anabranch.compose` calls it for every way to start one."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

from anabranch.core.request.admission import Limits
from anabranch.ports import RunIndex
from anabranch.registry.transaction import Transactions
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.streams import standard_error
from anabranch.runtime.reading.run_index import HistoryIndex, ViewIndex
from anabranch.sdk.client import Client
from anabranch.sdk.http_agent import HttpCall, send
from anabranch.sdk.http_policy import AllowList
from anabranch_gateway.access.audit import AuditLog
from anabranch_gateway.access.authenticators import authenticator_of
from anabranch_gateway.access.project_cache import ProjectCache
from anabranch_gateway.asgi import add_health, add_metrics, create_app
from anabranch_gateway.context import Examine, GatewayContext, ListLimits
from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.events.run_changes import RunChanges
from anabranch_gateway.http.parsing import ParsingPool
from anabranch_gateway.runs.admitted_requests import AdmittedRequests
from anabranch_gateway.runs.dead_letter_cache import DeadLetterCache
from anabranch_gateway.runs.inspection import MemberInspector
from anabranch_gateway.runs.lookup import RunLookup
from anabranch_gateway.runs.pending import PendingRuns
from anabranch_gateway.runs.projection_cache import ProjectionCache
from anabranch_gateway.runs.submission import Submitter
from anabranch_gateway.service import GatewayService
from anabranch_gateway.system_status import SystemStatus
from anabranch_gateway.task_registry import TaskRegistry
from anabranch_gateway.webhooks.alerts import text_of
from anabranch_gateway.webhooks.delivery import WebhookDelivery
from anabranch_gateway.webhooks.dispatcher import WebhookDispatcher
from anabranch_gateway.webhooks.notifications import Notifications, read_notifications
from anabranch_gateway.webhooks.subscription_registry import SubscriptionRegistry

WEBHOOK_SECONDS = 10.0
WEBHOOK_RESPONSE_BYTES = 100_000


def build(
    resources: Resources,
    agents: Collection[str] | None = None,
    examine: Examine | None = None,
    announce: Callable[[str], None] | None = None,
    environ: Mapping[str, str] = os.environ,
    list_limits: ListLimits | None = None,
    history: RunIndex | None = None,
    tasks: Transactions | None = None,
) -> GatewayService:
    """The gateway on any adapters.

    Args:
        agents: names that a request may use; None if they are not known here.
        examine: explains why a run does not end; without it `/why` and `/heal` answer 501.
        announce: called with the address once it is served; by default it is printed to standard error.
        list_limits: lists the limits that runs share; without it `/v1/limits` answers 501.
        history: finds runs of the history; without it lists have recent runs only.
        environ: its `ANABRANCH_HTTP_ALLOW` says where webhooks may be sent.
        tasks: the registry of tasks, whose database is closed by the service unless the process shares it; without
            it tasks answer 501.

    Raises:
        Misconfigured: the gateway would be open to other machines without `gateway_auth=none`, or its keys
            cannot be read.
    """
    telemetry = resources.telemetry
    allow_list = AllowList.parse(environ.get("ANABRANCH_HTTP_ALLOW", ""))
    context = _context(resources, agents, allow_list, tasks)
    context = replace(context, examine=examine, list_limits=list_limits)
    if history is not None:
        context = replace(context, run_index=HistoryIndex(history, resources.store, resources.names))
    app = create_app(context, telemetry)
    service = GatewayService(app, context, resources.supervisor, announce or _print_address)
    add_health(app, service.health)
    add_metrics(app, telemetry)
    return service


def _context(
    resources: Resources, agents: Collection[str] | None, allow_list: AllowList, tasks: Transactions | None
) -> GatewayContext:
    settings, clock, names = resources.settings, resources.clock, resources.names
    limits = Limits(settings.request_limit, settings.members_limit, settings.inline_limit)
    client = Client.over(resources.log, resources.store, resources.notifier, names, clock, resources.ids, limits)
    broadcaster = EventBroadcaster(resources.log, names)
    projects, pending, parsing = ProjectCache(client), PendingRuns(clock), ParsingPool()
    requests = AdmittedRequests(client)
    notifications = read_notifications(settings.gateway_notify)
    subscriptions = SubscriptionRegistry(resources.log, names.webhooks)
    return GatewayContext(
        client=client,
        settings=settings,
        limits=limits,
        authenticator=authenticator_of(settings, clock),
        audit=AuditLog(resources.log, names.audit, clock),
        broadcaster=broadcaster,
        changes=RunChanges(broadcaster, client),
        lookup=RunLookup(client, pending),
        run_index=ViewIndex(resources.store, names),
        submitter=Submitter(client, limits, agents, parsing, pending, broadcaster),
        requests=requests,
        projections=ProjectionCache(broadcaster),
        inspector=MemberInspector(client, broadcaster, requests),
        dead_letters=DeadLetterCache(client, projects),
        system_status=SystemStatus(client, settings.prefix, clock),
        tasks=_task_registry(resources, client, tasks),
        subscriptions=subscriptions,
        notifications=notifications,
        dispatcher=WebhookDispatcher(
            client,
            broadcaster,
            subscriptions,
            projects,
            partial(_send, allow_list, notifications),
            resources.supervisor,
            resources.telemetry,
        ),
        parsing=parsing,
        allow_list=allow_list,
        random_bytes=os.urandom,
    )


def _task_registry(resources: Resources, client: Client, tasks: Transactions | None) -> TaskRegistry:
    owns_database = tasks is not None and tasks.database is not resources.database
    return TaskRegistry(
        client,
        tasks,
        resources.supervisor,
        owns_database=owns_database,
        max_running=resources.settings.max_concurrent_tasks,
        max_executions=resources.settings.max_concurrent_executions,
    )


def _send(
    allow_list: AllowList, notifications: Notifications, delivery: WebhookDelivery, headers: Mapping[str, str]
) -> None:
    """Make one attempt of a delivery; see `dispatcher.Send`. The allow-list is checked again here, for the
    resolved address."""
    subscription = delivery.subscription
    if subscription.kind == "notify" and delivery.alert is not None:
        notifications.send(subscription.target, *text_of(delivery.alert))
        return
    call = HttpCall(subscription.target, "POST", headers, delivery.body, WEBHOOK_SECONDS, WEBHOOK_RESPONSE_BYTES)
    send(call, allow_list)


def _print_address(url: str) -> None:
    standard_error().write(f"Dashboard and API: {url}\n")
    standard_error().flush()
