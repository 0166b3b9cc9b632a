"""What consumer groups have committed, asked by consumers that never join them.

Not by the admin client: librdkafka ends the process where a broker goes away while its admin client asks the
coordinator of a group (https://github.com/confluentinc/librdkafka/issues/4605).
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
    """Asks for the positions of groups; keeps a client for each group. `timeout` bounds each answer in seconds."""

    def __init__(self, settings: KafkaSettings, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._clients: dict[str, Consumer] = {}

    async def committed(self, group: str, places: Sequence[TopicPartition]) -> dict[int, Committed | None]:
        """By partition, None where nothing is committed. Raises ServerUnavailable or Misconfigured."""
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
        """Let go of every client."""
        clients, self._clients = list(self._clients.values()), {}
        await asyncio.gather(*(asyncio.to_thread(client.close) for client in clients))
