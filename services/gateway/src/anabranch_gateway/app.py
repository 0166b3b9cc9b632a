"""Composition root of the gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import partial

from anabranch.core.admission import Limits
from anabranch.runtime.process import run_service
from anabranch.runtime.resources import Resources
from anabranch.runtime.settings import Settings
from anabranch.sdk.client import Client
from anabranch_gateway.audit import Audit
from anabranch_gateway.changes import Changes
from anabranch_gateway.folds import Folds
from anabranch_gateway.guards import guard_of
from anabranch_gateway.letters import Letters
from anabranch_gateway.live import LiveEvents
from anabranch_gateway.parts import Examine, Parts
from anabranch_gateway.recent import RecentRuns
from anabranch_gateway.requests import Requests
from anabranch_gateway.service import GatewayService
from anabranch_gateway.survey import Survey
from anabranch_gateway.web import add_health, create_app


def build(
    resources: Resources,
    agents: Collection[str] | None = None,
    examine: Examine | None = None,
    announce: Callable[[str], None] | None = None,
) -> GatewayService:
    """The gateway on any adapters.

    Args:
        agents: names that a request may use; None where that is not known.
        examine: answers why a run does not end; without it that question is not answered.
        announce: told the address once it is served; without it standard error is.

    Raises:
        Misconfigured: open to everybody beyond this machine without being told to; keys that cannot be read.
    """
    settings, clock = resources.settings, resources.clock
    limits = Limits(settings.request_limit, settings.members_limit, settings.inline_limit)
    client = Client.over(
        resources.log, resources.store, resources.notifier, resources.names, clock, resources.ids, limits
    )
    live = LiveEvents(resources.log, resources.names)
    parts = Parts(
        client=client,
        settings=settings,
        limits=limits,
        agents=agents,
        guard=guard_of(settings, clock),
        audit=Audit(resources.log, resources.names.audit, clock),
        live=live,
        recent=RecentRuns(clock),
        requests=Requests(client),
        folds=Folds(live),
        letters=Letters(client),
        changes=Changes(live, client),
        survey=Survey(client, settings.prefix, clock),
        examine=examine,
    )
    app = create_app(parts)
    service = GatewayService(app, parts, resources.supervisor, announce or _say)
    add_health(app, service.health)
    return service


def main(settings: Settings, examine: Examine | None = None) -> int:
    """Run the service in this process until it is told to stop; returns the exit code."""
    return run_service(partial(build, examine=examine), settings)


def _say(url: str) -> None:
    sys.stderr.write(f"Dashboard and API: {url}\n")
    sys.stderr.flush()
