"""The port of the history: a database of what the log has told about runs, written by a projector.

Nothing that decides about a run reads it. Imported only where a database is configured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = dict[str, Any]
"""A row: values by the name of the column."""


@dataclass(frozen=True, slots=True)
class HistoryPosition:
    """How far one owner of a partition has projected it.

    `epoch` counts the owners of the partition, and `next_offset` is the next record to project. `incarnation` is
    that of the topic: one that was created again counts its offsets from 0.
    """

    topic: str
    partition: int
    incarnation: str
    epoch: int
    next_offset: int


@dataclass(slots=True)
class HistoryWrites:
    """What a batch of records changes: rows to put by table, in place of those with the same primary key, and
    search terms to remove and to add."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    removed_terms: list[Row] = field(default_factory=list)
    added_terms: list[Row] = field(default_factory=list)


class HistoryStore(Protocol):
    """The rows of the history and the position of each partition, changed together.

    Every method raises ServerUnavailable if the database does not respond.
    """

    async def prepare(self) -> None:
        """Bring the schema to the newest version. Idempotent."""

    async def take_over(self, topic: str, partition: int, incarnation: str) -> HistoryPosition:
        """Become the owner of a partition: writes with an earlier position of it are refused from now on.

        Projection starts at offset 0 if nothing was projected, or only of another incarnation of the topic.
        """

    async def states(self, run_ids: Sequence[str]) -> Mapping[str, bytes]:
        """The `state` of each of these runs that has a row."""

    async def write(
        self, position: HistoryPosition, next_offset: int, writes: HistoryWrites, record_time: float, now: float
    ) -> HistoryPosition:
        """Put all rows and the next offset in one transaction; returns the new position.

        A repetition of a call that was committed, although its caller was told that the server is unavailable,
        changes nothing.

        Args:
            record_time: the timestamp of the last of the records.
            now: the time up to which all records of the partition were read.

        Raises:
            Fenced: another owner has taken the partition over. Nothing was written.
        """

    async def caught_up(self, positions: Sequence[HistoryPosition], now: float) -> None:
        """Note that these partitions have been read to their ends as of `now`. Positions of earlier owners, and
        such that are not the last ones, are ignored."""

    async def close(self) -> None:
        """Release connections. Idempotent."""
