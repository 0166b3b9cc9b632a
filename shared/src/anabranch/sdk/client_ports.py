"""The ports that a client works over."""

from __future__ import annotations

from dataclasses import dataclass

from anabranch.core.names import Names
from anabranch.ports import Clock, EventLog, Ids, Notifier, StateStore


@dataclass(frozen=True, slots=True)
class ClientPorts:
    """Log, store, notifier, clock and ids of a client, and the names of its installation."""

    log: EventLog
    store: StateStore
    notifier: Notifier
    names: Names
    clock: Clock
    ids: Ids
