"""The broker of a simulation: reports each appended record, can use its own timestamps, can recreate topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anabranch.adapters.limits import check_sizes
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.ports import Incoming, Outgoing, TopicSpec
from anabranch.testing.simulator.processes import SESSION_SECONDS

BROKER_TIME = "LogAppendTime"


class ObservedBroker(MemoryBroker):
    """See the module.

    Args:
        appended: called with each appended record.
        now: the broker's clock, in seconds since the epoch; None: records have the timestamp of their producer.
    """

    def __init__(self, appended: Callable[[Incoming], None], now: Callable[[], float] | None = None) -> None:
        super().__init__(session_timeout=SESSION_SECONDS)
        self._appended = appended
        self._now = now

    def append(self, records: Sequence[Outgoing], timestamp: float) -> list[int]:
        """See MemoryBroker. Records of topics with LogAppendTime get the broker's timestamp."""
        check_sizes(records, self.record_limit)
        offsets = []
        for record in records:
            place = self._place(record)
            kind = self._settings[record.topic].get("message.timestamp.type")
            at = self._now() if self._now is not None and kind == BROKER_TIME else timestamp
            offsets.append(place.append(record, at))
            self._appended(place.read(offsets[-1], 1)[0])
        return offsets

    def begin_at(self, topic: str, offset: int) -> None:
        """Let a new topic begin at an offset, like one that has been used for long."""
        for partition in self.partitions(topic):
            partition.begin_at(offset)

    def recreate(self, spec: TopicSpec) -> None:
        """Delete a topic and create it again. Groups keep their members and owners, but lose committed offsets."""
        owners = {name: (dict(group.owners), dict(group.targets)) for name, group in self._groups.items()}
        self.delete(spec.name)
        self.create(spec)
        for name, group in self._groups.items():
            group.owners, group.targets = owners[name]
