"""Start of a service's process: waits for servers and topics, alive and unready, in place of ending.

Kafka and Redis may start later than a service, as after a power cut or in a new installation. An orchestrator that
restarts the process in a loop would only hide the reason, so the process stays, `/readyz` says what it waits for,
and each attempt is logged with its cause. What no wait can correct ends the process: a wrong URL, refused
credentials, topics with wrong settings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from anabranch.core.errors import AnabranchError, ServerUnavailable, TopicsMissing
from anabranch.ports import Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.process.health import Health
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.until_available import until_available

T = TypeVar("T")

FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 5.0
WAITED_FOR: tuple[type[AnabranchError], ...] = (ServerUnavailable, TopicsMissing)
"""Errors of a start that is tried again. All others end the process."""


class HasHealth(Protocol):
    """A service, as far as its start needs it."""

    @property
    def name(self) -> str:
        """The name in logs and probes."""

    def health(self) -> Health:
        """The current health."""


@dataclass(slots=True)
class Startup:
    """The health of a process: of its service, or of the start while there is none."""

    name: str
    telemetry: Telemetry = NO_TELEMETRY
    """That of the resources, once they are connected; one for the whole life of the process."""
    _service: HasHealth | None = None
    _waiting: str = "connecting to Kafka and Redis"
    _has_started: bool = False
    _is_draining: bool = False

    def health(self) -> Health:
        """Not ready before the service has started and from the first stop signal on. A process that waits for a
        server is live, because a restart would not help."""
        if self._service is None:
            return Health(live=True, ready=False, detail=self._waiting)
        found = self._service.health()
        if self._is_draining:
            return replace(found, ready=False, detail=f"stopping; {found.detail}")
        return replace(found, ready=found.ready and self._has_started)

    @property
    def has_service(self) -> bool:
        """True while a service is built."""
        return self._service is not None

    def exposition(self) -> bytes:
        """The metrics of the process; none before it is connected."""
        return self.telemetry.exposition()

    def built(self, service: HasHealth, resources: Resources) -> None:
        """Report the health of this service, and let agents export their spans."""
        self.name = service.name
        self._service = service
        if self.telemetry is not resources.telemetry:
            self.telemetry = resources.telemetry
            self.telemetry.adopt()

    def discard(self) -> None:
        """Report no longer the health of the service: it could not start, or it stops."""
        self._service = None

    def drain(self) -> None:
        """Report the process as not ready."""
        self._is_draining = True
        self._waiting = "stopping"

    async def until_started(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt` until it succeeds; returns its result.

        Args:
            attempt: connects, and builds and starts the service. After a failure it has closed everything.

        Raises:
            AnabranchError: an error that no wait corrects, or any while the process stops.
        """
        started = await until_available(
            attempt,
            f"start {self.name}",
            delay=FIRST_RETRY_SECONDS,
            max_delay=MAX_RETRY_SECONDS,
            retry_on=WAITED_FOR,
            on_failure=self._wait_for,
        )
        self._has_started = True
        return started

    def _wait_for(self, error: AnabranchError) -> None:
        if self._is_draining:
            raise error
        self._waiting = f"waiting to start: {error}"
