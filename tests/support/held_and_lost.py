"""A session's owner with one task, driven message by message: its offers, and the end of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from anabranch.core.names import Names
from anabranch.core.request.models import Expansion
from anabranch.core.wire.codec import GROUPS, RUNS, encode
from anabranch.core.wire.dead_letters import CODE, DEAD_LETTER_ID, SIGNATURE
from anabranch.core.wire.events import EventEntry
from anabranch.core.wire.messages import (
    ChunkLost,
    ChunkReturned,
    GroupFinished,
    MemberFailed,
    MemberRetry,
    MembersReported,
    Message,
    OpenRun,
    ReleaseHeld,
    StartGroup,
    TaskOrder,
    TimerDue,
)
from anabranch.runtime.ownership.effects import PublishAfter
from anabranch_taskgroup.session.actor import DeliveredMessage, decide
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import DecisionConfig, OfferChunk
from anabranch_taskgroup.worker.reports import spans_of

NAMES = Names("t.")


class Play:
    """One run of one task `t` in group `g`, with `members` members, or without an expansion if that is None."""

    def __init__(
        self,
        members: int | None,
        *,
        rules: Mapping[str, Any] | None = None,
        most_chunks: int | None = None,
        **order: Any,
    ) -> None:
        self.rules = DecisionConfig(NAMES, **(rules or {}))
        self.partition = PartitionState(3)
        self.log: list[DeliveredMessage] = []
        self.at = 1_000.0
        self.events: list[EventEntry] = []
        self.offers: list[OfferChunk] = []
        self.dead_letters: list[dict[str, Any]] = []
        self.dead_letter_headers: list[dict[str, str]] = []
        self.finished: GroupFinished | None = None
        expansion = None
        if members is not None:
            expansion = Expansion(type="array", array_mapping={"item": list(range(members))})
        task = TaskOrder(name="t", agent="a", result_keys=("t",), expansion=expansion, **order)
        self.feed(OpenRun(run_id="r", request_id="q", session_id="s", groups=("g",), deadline=1e9))
        self.feed(StartGroup(run_id="r", group="g", tasks=(task,), timeout=600.0, most_chunks=most_chunks))

    # --- messages ---------------------------------------------------------------------------------------

    def feed(self, message: Message, segments: tuple[bytes, ...] = ()) -> None:
        """Append a message in its encoded form, and let the owner decide."""
        decoded = GROUPS.decode(encode(message, segments))
        delivery = DeliveredMessage(decoded.message, decoded.segments, len(self.log), self.at)
        self.log.append(delivery)
        turn = decide(self.rules, self.partition, delivery)
        self.events += [entry for _, entry in turn.events]
        for effect in turn.effects:
            if isinstance(effect, OfferChunk):
                self.offers.append(effect)
            elif isinstance(effect, PublishAfter):
                self._observe(effect)

    def _observe(self, effect: PublishAfter) -> None:
        if effect.outgoing.topic == NAMES.dead_letters:
            self.dead_letters.append(orjson.loads(effect.outgoing.value))
            headers = dict(effect.outgoing.headers)
            self.dead_letter_headers.append(
                {name: str((value or b"").decode()) for name, value in headers.items()}
            )
        elif effect.outgoing.topic == NAMES.runs:
            found = RUNS.decode(effect.outgoing.value).message
            if isinstance(found, GroupFinished):
                self.finished = found

    def _fields_of(self, chunk: Chunk) -> dict[str, Any]:
        fields = {"run_id": "r", "group": "g", "task": "t", "worker": "w"}
        return fields | {"chunk": chunk.number, "fence": chunk.fence}

    def begin(self, chunk: Chunk, *indexes: int) -> None:
        self.feed(MembersReported(**self._fields_of(chunk), started=spans_of(indexes), started_at=self.at))

    def complete(self, chunk: Chunk, *indexes: int) -> None:
        values = orjson.dumps(list(indexes))
        report = MembersReported(
            **self._fields_of(chunk), started=spans_of(indexes), completed=spans_of(indexes), items=(len(indexes),)
        )
        self.feed(report, (values,))

    def fail(self, chunk: Chunk, *indexes: int, message: str = "no", traceback: str | None = None) -> None:
        why = {"error_type": "ValueError", "message": message, "traceback": traceback}
        failed = tuple(MemberFailed.model_validate({"index": i, "attempts": 2, **why}) for i in indexes)
        self.feed(MembersReported(**self._fields_of(chunk), started=spans_of(indexes), failed=failed))

    def retry(self, chunk: Chunk, index: int, delay: float, *, traceback: str | None = None) -> None:
        again = MemberRetry(
            index=index, attempt=1, delay=delay, error_type="ValueError", message="later", traceback=traceback
        )
        self.feed(MembersReported(**self._fields_of(chunk), started=spans_of([index]), retried=(again,)))

    def lose(self, chunk: Chunk, **more: Any) -> None:
        self.feed(ChunkLost(**self._fields_of(chunk), **more))

    def hand_back(self, chunk: Chunk, reason: Any = "draining") -> None:
        self.feed(ChunkReturned(**self._fields_of(chunk), reason=reason))

    def release(self, action: Any, command_id: str = "c", **more: Any) -> None:
        self.feed(ReleaseHeld(run_id="r", action=action, command_id=command_id, **more))

    def time_out_group(self) -> None:
        self.at += 600
        self.feed(TimerDue(run_id="r", at=self.at))

    # --- inspection ---------------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        return self.partition.runs["r"].groups["g"].tasks["t"]

    @property
    def chunks(self) -> list[Chunk]:
        """Offered chunks, the oldest first."""
        return list(self.task.chunks.values())

    @property
    def shape(self) -> list[tuple[str, list[int]]]:
        """Offered chunks as (mode, members)."""
        return [(chunk.mode, list(chunk.pending.indexes())) for chunk in self.chunks]

    def chunk_of(self, index: int) -> Chunk:
        return next(chunk for chunk in self.chunks if index in chunk.pending)

    def complete_all(self) -> None:
        """Run every offered chunk to its end, until none is offered."""
        while "r" in self.partition.runs and self.chunks:
            chunk = self.chunks[0]
            self.complete(chunk, *chunk.pending.indexes())

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [entry.data for entry in self.events if entry.type == kind]


class Fleet:
    """Workers that run `at_once` members and die when a killer runs. Suspects are kept alone, as in real
    workers."""

    def __init__(self, play: Play, killers: set[int], at_once: int = 4, chunks_at_once: int = 3) -> None:
        self.play = play
        self.killers = killers
        self.at_once = at_once
        self.chunks_at_once = chunks_at_once
        self.deaths = 0
        self.ran: dict[int, int] = {}

    def run(self) -> None:
        """Let workers, one after another, take offers until the run has ended."""
        while "r" in self.play.partition.runs and self.play.chunks:
            self._life(self.play.chunks[: self.chunks_at_once])

    def _life(self, chunks: list[Chunk]) -> None:
        """One worker's life: it shuts down in good order, or dies with all that it holds."""
        held = sorted(chunks, key=lambda chunk: chunk.mode == "alone")
        for chunk in held:
            if not self._runs(chunk):
                self.deaths += 1
                for each in held:
                    self.play.lose(each)
                return

    def _runs(self, chunk: Chunk) -> bool:
        """Run a chunk; returns False if the worker died in it."""
        members = list(chunk.pending.indexes())
        for first in range(0, len(members), self.at_once):
            batch = members[first : first + self.at_once]
            if chunk.mode != "fast":
                self.play.begin(chunk, *batch)
            for index in batch:
                self.ran[index] = self.ran.get(index, 0) + 1
            if self.killers & set(batch):
                return False
            if chunk.mode != "fast":
                self.play.complete(chunk, *batch)
        if chunk.mode == "fast":
            self.play.complete(chunk, *members)
        return True


__all__ = ["CODE", "DEAD_LETTER_ID", "NAMES", "SIGNATURE", "Fleet", "Play"]
