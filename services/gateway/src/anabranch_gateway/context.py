"""The objects that routes work with: built once by the composition root, passed to every route.

Data, no behaviour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from anabranch.core.request.admission import Limits
from anabranch.ports import RunIndex
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.client import Client
from anabranch.sdk.http_policy import AllowList
from anabranch_gateway.access.audit import AuditLog
from anabranch_gateway.access.callers import Authenticator
from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.events.run_changes import RunChanges
from anabranch_gateway.http.parsing import ParsingPool
from anabranch_gateway.runs.admitted_requests import AdmittedRequests
from anabranch_gateway.runs.dead_letter_cache import DeadLetterCache
from anabranch_gateway.runs.inspection import MemberInspector
from anabranch_gateway.runs.lookup import RunLookup
from anabranch_gateway.runs.projection_cache import ProjectionCache
from anabranch_gateway.runs.submission import Submitter
from anabranch_gateway.system_status import SystemStatus
from anabranch_gateway.task_registry import TaskRegistry
from anabranch_gateway.webhooks.dispatcher import WebhookDispatcher
from anabranch_gateway.webhooks.notifications import Notifications
from anabranch_gateway.webhooks.subscription_registry import SubscriptionRegistry

ListLimits = Callable[[Client], Awaitable[list[dict[str, Any]]]]
"""The limits that runs share, as `limits --json` has them."""
Examine = Callable[[Client, str, bool], Awaitable[dict[str, Any]]]
"""Explains why a run does not end, as the document of `why --json`; with True it also re-sends pending work."""


@dataclass(frozen=True, slots=True)
class GatewayContext:
    """The services of the gateway by their roles.

    Attributes:
        allow_list: where webhooks may be sent.
        random_bytes: returns this number of random bytes, for secrets.
        examine: explains open runs; None if this gateway was built without it.
        list_limits: lists the limits that runs share; None if this gateway was built without it.
    """

    client: Client
    settings: Settings
    limits: Limits
    authenticator: Authenticator
    audit: AuditLog
    broadcaster: EventBroadcaster
    changes: RunChanges
    lookup: RunLookup
    run_index: RunIndex
    submitter: Submitter
    requests: AdmittedRequests
    projections: ProjectionCache
    inspector: MemberInspector
    dead_letters: DeadLetterCache
    system_status: SystemStatus
    tasks: TaskRegistry
    subscriptions: SubscriptionRegistry
    notifications: Notifications
    dispatcher: WebhookDispatcher
    parsing: ParsingPool
    allow_list: AllowList
    random_bytes: Callable[[int], bytes]
    examine: Examine | None = None
    list_limits: ListLimits | None = None


async def _context(connection: HTTPConnection) -> GatewayContext:
    context: GatewayContext = connection.app.state.context
    return context


WithContext = Annotated[GatewayContext, Depends(_context)]
