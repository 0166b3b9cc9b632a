"""What a service adds to the shell around its actor: decisions, and the effects that are its own.

A protocol only; `runtime.owner` is the shell, and each service's `domain` module fills this in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from anabranch.ports import Incoming, Outgoing
from anabranch.runtime.ownership.effects import Effect

S = TypeVar("S")

Recall = Callable[[Sequence[str]], Awaitable[Sequence[bytes | None]]]
"""The values of keys in the store; None means that it never had the key, or not for long enough: a store that has
forgotten is no answer, and raises ServerUnavailable."""


class PartitionHandler(Protocol[S]):
    """What a service adds to the shell."""

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
        """What follows where nobody is to decide about a record, as processes died of it: it is put into
        `rejected`. Called again with the same record whenever the partition is read again."""

    async def prepare(self, state: S, records: Sequence[Incoming], recall: Recall) -> None:
        """Load what `decide` needs to know of the past (tombstones); called before it with the same records."""

    def oldest_open(self, state: S) -> int | None: ...

    def next_due(self, state: S) -> float | None:
        """When the earliest timer is due, in seconds since the epoch."""

    def due_records(self, state: S, now: float) -> Sequence[Outgoing]:
        """The timers that are due, as records for the partition."""

    def is_derived(self, effect: Effect) -> bool:
        """Whether `on_takeover` derives this effect from the state anyway."""

    def is_stored(self, effect: Effect) -> bool:
        """Whether an effect of the service's own writes to the store, which may have forgotten it."""

    async def make_durable(self, state: S, effects: Sequence[Effect], fence_epoch: int) -> None:
        """Effects of the service's own that outcomes depend on."""

    async def start_work(self, state: S, effects: Sequence[Effect]) -> None:
        """Effects of the service's own that start or stop work: once outcomes are durable, beside the news."""

    def on_rebuilt(self, state: S, open_from: int) -> None:
        """The state is that of the last commit. Runs that records before offset `open_from` opened had ended by
        then. One of them that is open in the state was opened by a repetition, and is dropped: its first records
        are before those that were read."""

    async def on_takeover(self, state: S) -> None:
        """The claim was reached: start what the state says should be going on."""

    def orphans(self, state: S) -> Sequence[Outgoing]:
        """Records for the partition that ask after each open run, in case the topic is deleted and created again:
        the run's own records are gone then. They change nothing for a run that the new topic opens."""

    async def on_release(self, state: S) -> None:
        """The partition moved on: stop watching for it."""
