"""Reads the committed positions of consumer groups, by consumers that never join them.

The admin client is not used, because librdkafka aborts the process if a broker goes away while the admin client
has a request at the coordinator of a group (https://github.com/confluentinc/librdkafka/issues/4605).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from anabranch.adapters.kafka.config import KafkaSettings
from anabranch.adapters.kafka.faults import error_of, translate
from anabranch.adapters.kafka.logs import LOGGER
from anabranch.ports import Committed


class GroupPositions:
    """Reads the positions of groups, with one client for each group. `timeout`: seconds for each response."""

    def __init__(self, settings: KafkaSettings, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._clients: dict[str, Consumer] = {}

    async def committed(self, group: str, places: Sequence[TopicPartition]) -> dict[int, Committed | None]:
        """Positions by partition, None if nothing is committed. Raises ServerUnavailable or Misconfigured."""
        if not places:
            return {}
        client = self._clients.get(group)
        if client is None:
            client = self._clients[group] = Consumer(self._settings.asker(group), logger=LOGGER)
        try:
            answers = await asyncio.to_thread(client.committed, list(places), timeout=self._timeout)
        except KafkaException as refused:
            raise translate(error_of(refused), self._settings.brokers, f"offsets of group {group}") from refused
        for answer in answers:
            if answer.error is not None:
                raise translate(answer.error, self._settings.brokers, f"offsets of group {group}")
        return {
            answer.partition: Committed(answer.offset, answer.metadata or "") if answer.offset >= 0 else None
            for answer in answers
        }

    async def close(self) -> None:
        """Close every client."""
        clients, self._clients = list(self._clients.values()), {}
        await asyncio.gather(*(asyncio.to_thread(client.close) for client in clients))
