"""Protocol of what a service adds to the shell around its actor: decisions, and effects of its own.

`ownership.owner` is the shell; the `owner.handler` of each service implements the protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.ownership.effects import Effect
from anabranch.runtime.ownership.snapshots import RunSnapshots

S = TypeVar("S")

Recall = Callable[[Sequence[str]], Awaitable[Sequence[bytes | None]]]
"""Reads values of keys in the store. None means that the store never had the key, or that it expired; a store that
lost its data raises ServerUnavailable instead."""


class PartitionHandler(Protocol[S]):
    """A service's decisions about the records of one topic, and its own effects."""

    @property
    def topic(self) -> str: ...

    @property
    def group(self) -> str: ...

    def fence_key(self, scope: str) -> str:
        """The store's key of the fence of a scope of writes."""

    def new_state(self, partition: int, generation: int) -> S:
        """An empty state; `generation` is the log's (see `core.admissions`)."""

    def decide(self, state: S, records: Sequence[Incoming], rejected: list[tuple[Incoming, str]]) -> list[Effect]:
        """Apply records in order. Undecodable ones are put into `rejected` with the reason."""

    def dead_letter(
        self, state: S, record: Incoming, reason: str, rejected: list[tuple[Incoming, str]]
    ) -> Sequence[Effect]:
        """Put a poison record into `rejected`; returns effects so that nothing waits for it. Called with the same
        record at each replay of it."""

    async def prepare(self, state: S, records: Sequence[Incoming], recall: Recall) -> None:
        """Load what `decide` needs from the store (tombstones). Called before it with the same records."""

    @property
    def snapshots(self) -> RunSnapshots[Any]:
        """The snapshots of the open runs."""

    def oldest_open(self, state: S) -> int | None:
        """The lowest offset from which a replay restores each open run; None if no run is open."""

    def next_due(self, state: S) -> float | None:
        """When the earliest timer is due, in seconds since the epoch."""

    def due_records(self, state: S, now: float) -> Sequence[Outgoing]:
        """The timers that are due, as records for the partition."""

    def is_derived(self, effect: Effect) -> bool:
        """True if `on_takeover` derives this effect from the state: a replay leaves it out."""

    def is_stored(self, effect: Effect) -> bool:
        """True if an effect of the service's own writes to the store: it is repeated after the store lost data."""

    async def make_durable(self, state: S, effects: Sequence[Effect], fence_epoch: int) -> None:
        """Perform the service's own effects of the first stage."""

    async def start_work(self, state: S, effects: Sequence[Effect]) -> None:
        """Perform the service's own effects of the second stage: those that start or stop work."""

    def on_rebuilt(self, state: S, open_from: int) -> None:
        """Called when the state is that of the last commit. Each run that was opened before offset `open_from`
        had ended by then: if it is open in the state, a duplicate of its opening record opened it, and it is
        dropped."""

    async def on_takeover(self, state: S) -> None:
        """Called when the owner's claim is reached: start the work that is in progress according to the state."""

    def orphans(self, state: S) -> Sequence[Outgoing]:
        """A query for each open run, as records for the partition, in case the topic is recreated: the records of
        the run are gone then. A query has no effect on a run that is open in the new topic."""

    async def hand_over(self, state: S) -> None:
        """Called before `on_release` if the partition was revoked and its last turn has ended: show the next owner
        what is under way in this process. It must return within a few seconds, because the group waits."""

    async def on_release(self, state: S) -> None:
        """Called when the partition was lost or revoked: stop all work for it."""
