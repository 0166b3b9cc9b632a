"""What a gateway works with: made once by `app`, handed to every route. Data, no behaviour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from anabranch.core.request.admission import Limits
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.client import Client
from anabranch.sdk.http_policy import AllowList
from anabranch_gateway.access.audit import Audit
from anabranch_gateway.access.auth import Authenticator
from anabranch_gateway.events.broadcaster import EventBroadcaster
from anabranch_gateway.events.changes import Changes
from anabranch_gateway.http.parsing import ParsingPool
from anabranch_gateway.runs.dead_letter_cache import DeadLetterCache
from anabranch_gateway.runs.pending import PendingRuns
from anabranch_gateway.runs.projection_cache import ProjectionCache
from anabranch_gateway.runs.requests import Requests
from anabranch_gateway.system_status import SystemStatus
from anabranch_gateway.webhooks.dispatcher import WebhookDispatcher
from anabranch_gateway.webhooks.subscriptions import SubscriptionRegistry

Examine = Callable[[Client, str, bool], Awaitable[dict[str, Any]]]
"""Why a run does not end, as the document of `why --json`; with True it is healed too. Given by who composes."""


@dataclass(frozen=True, slots=True)
class GatewayContext:
    """See the module. `agents` is None where the registry is not known here."""

    client: Client
    settings: Settings
    limits: Limits
    agents: Collection[str] | None
    guard: Authenticator
    audit: Audit
    live: EventBroadcaster
    recent: PendingRuns
    requests: Requests
    folds: ProjectionCache
    letters: DeadLetterCache
    changes: Changes
    survey: SystemStatus
    subscriptions: SubscriptionRegistry
    deliverer: WebhookDispatcher
    parsing: ParsingPool
    allow: AllowList
    """Where webhooks may be sent."""
    random_bytes: Callable[[int], bytes]
    examine: Examine | None = None


async def _parts(connection: HTTPConnection) -> GatewayContext:
    parts: GatewayContext = connection.app.state.parts
    return parts


WithParts = Annotated[GatewayContext, Depends(_parts)]
