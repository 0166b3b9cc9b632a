"""Publishes the events of agents, in the project of their runs."""

from __future__ import annotations

from typing import Any

from anabranch.core.names import Names
from anabranch.ports import EventLog
from anabranch.sdk.control import control_record


class EventPublisher:
    """Publishes events on one log."""

    def __init__(self, log: EventLog, names: Names) -> None:
        self._log = log
        self._names = names

    async def publish(
        self,
        project: str,
        name: str,
        key: str | float,
        data: Any,
        event_id: str,
        *,
        ttl: float | str | None,
        deliver: str | None,
    ) -> None:
        """Publish an event. `ttl` is in seconds or as "15m"; None of it and of `deliver`: the default.

        Raises:
            RequestRefused: the name, the key or the time is invalid.
            ServerUnavailable: the event could not be published.
        """
        fields = {"type": "event", "name": name, "key": key, "id": event_id, "data": data}
        fields |= {"ttl": ttl, "deliver": deliver, "project": project}
        await self._log.publish([control_record(self._names, fields)])
