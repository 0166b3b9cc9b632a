"""Sends a worker's reports to the owners of its chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from anabranch.core.costs import MICROS
from anabranch.core.error_records import error_record
from anabranch.core.names import Names
from anabranch.core.request.limits import Breaker
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ChunkReturned, Offer
from anabranch.ports import Clock, Outgoing
from anabranch.runtime.outbound_queue import OutboundQueue
from anabranch_taskgroup.worker.attempt_errors import AttemptErrors
from anabranch_taskgroup.worker.reports import PendingReport, delivery_of, pack, pack_failed
from anabranch_taskgroup.worker.runner import ChunkRun

ReturnReason = Literal["draining", "no_agent", "no_room", "no_document", "paused"]


class Reporter:
    """Packs the outcomes of members into records, and queues them in the outbox.

    Args:
        incarnation: the name of the worker in its reports.
        errors: limits the tracebacks of failures outside of agents.
    """

    def __init__(
        self, outbox: OutboundQueue[Outgoing], names: Names, clock: Clock, incarnation: str, errors: AttemptErrors
    ) -> None:
        self._outbox = outbox
        self._topic = names.groups
        self._clock = clock
        self._incarnation = incarnation
        self._errors = errors

    def report(self, run: ChunkRun, *, last: bool) -> None:
        """Send the outcomes of a chunk's members since its last report. `last`: the chunk has ended here."""
        # The last one is not replaced by a new one: what an abandoned agent adds later is dropped.
        pending = run.buffer.pending if last else run.buffer.take()
        pending.micros = int(run.buffer.seconds * MICROS)
        expansion = run.prepared.order.expansion
        # A chunk without its last members says nothing about how long all of them take.
        # In nanoseconds: further digits are those of the subtraction, and take as many bytes as the rest of it.
        busy = round(self._clock.monotonic() - run.began, 9) if run.began and not run.paused else 0.0
        records = pack(
            run.offer,
            self._incarnation,
            run.prepared.order.result_keys,
            pending,
            last=last,
            busy=busy,
            with_identifiers=expansion is not None and expansion.output_format == "separate",
            agent=None if run.prepared.agent.name == run.offer.agent else run.prepared.agent.name,
        )
        # Packed before any of it is queued: where packing fails, the owner gets nothing of this report.
        self._send(run.offer, records)
        if not last:
            run.buffer.note_reported(pending)

    async def record(self, run: ChunkRun) -> None:
        """Send the pending report of a chunk, and return once it is on the log."""
        self.report(run, last=False)
        await self._outbox.wait_sent()

    async def record_start(self, offer: Offer, index: int) -> None:
        """Report that a member starts, before its chunk is opened; return once that is on the log."""
        pending = PendingReport(started=[index], started_at=self._clock.now())
        self._send(
            offer, pack(offer, self._incarnation, (), pending, last=False, busy=0.0, with_identifiers=False)
        )
        await self._outbox.wait_sent()

    def fail(self, offer: Offer, error: BaseException, indexes: Sequence[int] | None = None) -> None:
        """End a chunk that cannot run: these members fail, or all members without `indexes`."""
        failure = self._errors.failure_of(error_record(error), self._clock.monotonic())
        self._send(offer, pack_failed(offer, self._incarnation, failure, indexes))

    def hand_back(self, offer: Offer, reason: ReturnReason, breaker: Breaker | None = None) -> None:
        """Return the members of a chunk that have not ended to its owner, who offers them again. `breaker`: see
        ChunkReturned."""
        message = ChunkReturned(**delivery_of(offer), worker=self._incarnation, reason=reason, breaker=breaker)
        self._send(offer, [encode(message)])

    def _send(self, offer: Offer, records: Sequence[bytes]) -> None:
        for value in records:
            self._outbox.put(Outgoing(self._topic, offer.session_id, value))
