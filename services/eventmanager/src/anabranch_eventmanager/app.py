"""Builds the event manager: with a Faust driver on Kafka, with a plain loop in embedded mode."""

from __future__ import annotations

from anabranch.ports.history import HistoryStore
from anabranch.runtime.process.resources import Resources
from anabranch_eventmanager.drivers.log_driver import LogDriver
from anabranch_eventmanager.service import EventManager


def build(resources: Resources, history: HistoryStore | None = None) -> EventManager:
    """The event manager in a process of its own, on Kafka.

    Raises:
        Misconfigured: Faust does not support one of the Kafka properties.
    """
    from anabranch_eventmanager.drivers.faust_driver import FaustDriver  # imports for a second: only where used

    settings = resources.settings
    driver = FaustDriver(
        resources.log,
        resources.names,
        settings.brokers,
        settings.kafka_properties,
        resources.supervisor.tasks(),
        settings.replication_factor,
    )
    return EventManager(driver, resources, history)


def build_embedded(resources: Resources, history: HistoryStore | None = None) -> EventManager:
    """The event manager on any log: a plain loop reads the events. Call it on the running event loop."""
    names = resources.names
    return EventManager(LogDriver(resources.log, names.eventmanager, names.events), resources, history)
