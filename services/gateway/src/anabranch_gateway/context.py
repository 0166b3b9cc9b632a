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
from anabranch_gateway.access.auth import Guard
from anabranch_gateway.events.broadcaster import LiveEvents
from anabranch_gateway.events.changes import Changes
from anabranch_gateway.http.parsing import Parsing
from anabranch_gateway.runs.dead_letter_cache import Letters
from anabranch_gateway.runs.pending import RecentRuns
from anabranch_gateway.runs.projection_cache import Folds
from anabranch_gateway.runs.requests import Requests
from anabranch_gateway.system_status import Survey
from anabranch_gateway.webhooks.dispatcher import Deliverer
from anabranch_gateway.webhooks.subscriptions import Subscriptions

Examine = Callable[[Client, str, bool], Awaitable[dict[str, Any]]]
"""Why a run does not end, as the document of `why --json`; with True it is healed too. Given by who composes."""


@dataclass(frozen=True, slots=True)
class Parts:
    """See the module. `agents` is None where the registry is not known here."""

    client: Client
    settings: Settings
    limits: Limits
    agents: Collection[str] | None
    guard: Guard
    audit: Audit
    live: LiveEvents
    recent: RecentRuns
    requests: Requests
    folds: Folds
    letters: Letters
    changes: Changes
    survey: Survey
    subscriptions: Subscriptions
    deliverer: Deliverer
    parsing: Parsing
    allow: AllowList
    """Where webhooks may be sent."""
    random_bytes: Callable[[int], bytes]
    examine: Examine | None = None


async def _parts(connection: HTTPConnection) -> Parts:
    parts: Parts = connection.app.state.parts
    return parts


WithParts = Annotated[Parts, Depends(_parts)]
