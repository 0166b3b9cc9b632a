"""A partition listener that keeps what happens to it, for the tests of the logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anabranch.ports import Committed, Incoming

TopicPartition = tuple[str, int]


class Recorder:
    """Keeps every callback in `calls`, every record in `records`, what it has now in `owned`.

    `start` gives the offset to return from `assigned`, `on_revoked` what to commit. Records delivered for a
    partition that is not owned are kept in `stray`: there must be none.
    """

    def __init__(
        self,
        start: Callable[[int, Committed | None], int | None] = lambda _partition, _committed: None,
        on_revoked: Callable[[str, int], Committed | None] = lambda _topic, _partition: None,
    ) -> None:
        self._start = start
        self.on_revoked = on_revoked
        self.calls: list[tuple[str, int]] = []
        self.committed: dict[int, Committed | None] = {}
        self.owned: set[TopicPartition] = set()
        self.records: list[Incoming] = []
        self.stray: list[Incoming] = []

    async def assigned(self, topic: str, partition: int, committed: Committed | None) -> int | None:
        self.calls.append(("assigned", partition))
        self.committed[partition] = committed
        self.owned.add((topic, partition))
        return self._start(partition, committed)

    async def revoked(self, topic: str, partition: int) -> Committed | None:
        self.calls.append(("revoked", partition))
        self.owned.discard((topic, partition))
        return self.on_revoked(topic, partition)

    async def lost(self, topic: str, partition: int) -> None:
        self.calls.append(("lost", partition))
        self.owned.discard((topic, partition))

    def deliver(self, topic: str, partition: int, records: Sequence[Incoming]) -> None:
        assert records, "a batch has at least one record"
        kept = self.records if (topic, partition) in self.owned else self.stray
        kept.extend(records)

    def values(self, partition: int | None = None) -> list[bytes]:
        """Values delivered, of one partition or of all."""
        return [record.value for record in self.records if partition in (None, record.partition)]

    def next_offset(self, partition: int) -> int:
        """The offset after the last record delivered of a partition; 0 before the first."""
        return max((record.offset + 1 for record in self.records if record.partition == partition), default=0)

    def count(self, call: str) -> int:
        """How often a callback was called."""
        return sum(name == call for name, _ in self.calls)
