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
from anabranch_gateway.audit import Audit
from anabranch_gateway.auth import Guard
from anabranch_gateway.changes import Changes
from anabranch_gateway.delivering import Deliverer
from anabranch_gateway.folds import Folds
from anabranch_gateway.letters import Letters
from anabranch_gateway.live import LiveEvents
from anabranch_gateway.parsing import Parsing
from anabranch_gateway.recent import RecentRuns
from anabranch_gateway.requests import Requests
from anabranch_gateway.subscriptions import Subscriptions
from anabranch_gateway.survey import Survey

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
