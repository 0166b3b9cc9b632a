"""Builds the event manager: with a Faust driver on Kafka, with a plain loop in embedded mode."""

from __future__ import annotations

from anabranch.core.names import Names
from anabranch.ports import Clock, EventLog, Notifier, StateStore, Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.supervision import Supervisor
from anabranch_eventmanager.drivers.log_driver import LogDriver
from anabranch_eventmanager.projection.nudges import NUDGE_AFTER
from anabranch_eventmanager.service import EventManager

DAY = 86_400.0


def build(resources: Resources) -> EventManager:
    """The event manager in a process of its own, on Kafka.

    Raises:
        Misconfigured: Faust does not support one of the Kafka properties.
    """
    from anabranch_eventmanager.drivers.faust_driver import FaustDriver  # imports for a second: only where used

    settings = resources.settings
    driver = FaustDriver(resources.log, resources.names, settings.brokers, settings.kafka_properties)
    return EventManager(
        driver,
        resources.log,
        resources.store,
        resources.notifier,
        resources.names,
        resources.clock,
        resources.supervisor,
        result_ttl=settings.result_ttl,
        nudge_after=settings.nudge_after,
        stall_after=settings.stall_after,
        telemetry=resources.telemetry,
    )


def build_embedded(
    log: EventLog,
    store: StateStore,
    notifier: Notifier,
    names: Names,
    clock: Clock,
    supervisor: Supervisor | None = None,
    *,
    result_ttl: float = DAY,
    nudge_after: float = NUDGE_AFTER,
    stall_after: float = 120.0,
    telemetry: Telemetry = NO_TELEMETRY,
) -> EventManager:
    """The event manager inside another process. Call it on the running event loop."""
    return EventManager(
        LogDriver(log, names.eventmanager, names.events),
        log,
        store,
        notifier,
        names,
        clock,
        supervisor or Supervisor(),
        result_ttl=result_ttl,
        nudge_after=nudge_after,
        stall_after=stall_after,
        telemetry=telemetry,
    )
