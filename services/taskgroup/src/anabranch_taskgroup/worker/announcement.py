"""Makes a worker's card: what it announces about itself with each heartbeat."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence

import anabranch
from anabranch.core.requirements import parse_offers
from anabranch.core.wire.worker_card import AgentCard, LaneBacklog, Load, WorkerCard, without_large_schemas
from anabranch.runtime.process.settings import Settings
from anabranch.sdk.agents import AgentDeclaration, Registry


class Announcement:
    """The card of one worker.

    Args:
        load: what the worker has under way.
        used: the amounts of resources that its chunks hold, which change.
        is_draining: True once the worker takes nothing more.
        started_at: seconds since the epoch.
        backlog: what is left to do for the sessions that the process owns.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        *,
        incarnation: str,
        started_at: float,
        load: Callable[[], Load],
        used: Mapping[str, int],
        is_draining: Callable[[], bool],
        backlog: Callable[[], Sequence[LaneBacklog]] = tuple,
    ) -> None:
        self._load = load
        self._used = used
        self._is_draining = is_draining
        self._backlog = backlog
        self._card = WorkerCard(
            id=incarnation,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=anabranch.__version__,
            pool=settings.pool,
            slots=settings.concurrency,
            offers=parse_offers(settings.offers).to_document(),
            started_at=started_at,
            agents=without_large_schemas(map(agent_card, registry)),
        )

    def encode(self) -> bytes:
        """The card with the present load, as a value of the store."""
        used = {name: amount for name, amount in self._used.items() if amount}
        changing: dict[str, object] = {"load": self._load(), "used": used, "draining": self._is_draining()}
        changing["backlog"] = tuple(self._backlog())
        return self._card.model_copy(update=changing).encode()


def agent_card(agent: AgentDeclaration) -> AgentCard:
    """An agent as its worker announces it."""
    return AgentCard(
        name=agent.name,
        version=agent.version,
        capabilities=agent.capabilities,
        input_schema=None if agent.input_schema is None else dict(agent.input_schema),
        output_schema=None if agent.output_schema is None else dict(agent.output_schema),
        retry=None if agent.retry is None else agent.retry.to_document(),
        timeout=agent.timeout,
        max_concurrency=agent.max_concurrency,
        kind=agent.executor,
        program=None if agent.program is None else agent.program.summary,
    )
