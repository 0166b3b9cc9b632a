"""Makes offers out of the owner's state: the task's document, and the slices of arrays for a chunk's members.

A document is written to the store once where many chunks need it, and travels inside the offer where it is
small or only one chunk will. An offer may be made again at any time; it is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from anabranch.core.bounded import BoundedDict
from anabranch.core.expansion.members import expand, sources
from anabranch.core.json_documents import dumps
from anabranch.core.names import chunk_name
from anabranch.core.tracing import every, trace_of
from anabranch.core.wire.messages import Offer
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import Clock, StateStore, Telemetry, Write
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.reading import values
from anabranch_taskgroup.session.chunks import concurrency_limit
from anabranch_taskgroup.session.state import Group, Run, Value
from anabranch_taskgroup.session.steps.expansion import arrays_of, visible_values
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import DecisionConfig

log = logging.getLogger(__name__)

SMALL = 2_048
"""Bytes of a document that travels in each of a task's offers."""
ONE_CHUNK = 200_000
"""Bytes of a document that travels in the only offer of a task."""
OFFER_BYTES = 500_000
"""Payload of an offer at most; half of what a record may have, where that is less."""
CACHE_BYTES = 256 * 1024 * 1024
"""Maximum total weight of the cached documents and of the arrays read from the store for them."""
ENTRY_BYTES = 256 * 1024
"""Minimum weight of a cache entry, which limits the cache to 1,024 tasks."""
CLAIM_MARGIN = 3_600.0


@dataclass(slots=True)
class _Frozen:
    """What the offers of one task share. `arrays` where members are made from slices.

    `weight` is the memory that a cache entry takes, in bytes: the document, and arrays that the store holds.
    """

    document: bytes
    inline: bool
    key: str
    arrays: dict[str, list[Any]] | None
    weight: int


class Offers:
    """Builds offers for one worker process; keeps what the chunks of a task share."""

    def __init__(
        self, rules: DecisionConfig, store: StateStore, clock: Clock, telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self._telemetry = telemetry
        self._rules = rules
        self._store = store
        self._clock = clock
        self._frozen: BoundedDict[tuple[str, int, str, str], _Frozen] = BoundedDict(
            CACHE_BYTES, weight=attrgetter("weight")
        )
        self.offer_bytes = OFFER_BYTES
        """Payload that one offer may have."""

    async def make(self, run: Run, group: Group, task: Task, chunk: Chunk) -> tuple[Offer, tuple[bytes, bytes]]:
        """The offer of a chunk as it stands, its document durable before it is returned."""
        frozen = await self._freeze(run, task, again=chunk.fence > task.first_fence)
        inline = frozen.document if frozen.inline else b""
        items = _slices(frozen, chunk)
        items_key = await self._set_aside(run, task, chunk, items, len(inline))
        offer = Offer(
            run_id=run.run_id,
            session_id=run.session_id,
            group=group.name,
            task=task.name,
            agent=task.order.agent,
            chunk=chunk.number,
            fence=chunk.fence,
            spans=tuple(chunk.pending),
            attempts=dict(chunk.attempts),
            expanded=task.order.expansion is not None,
            concurrency=None if concurrency_limit(group, task) is None else chunk.charge,
            document_key=None if frozen.inline else frozen.key,
            items_key=items_key,
            deadline=run.deadline,
            mode=chunk.mode,
            claim_ttl=self._ttl(run),
        )
        return offer, (inline, items if items_key is None else b"")

    async def _set_aside(self, run: Run, task: Task, chunk: Chunk, items: bytes, beside: int) -> str | None:
        """Put a chunk's items into the store where no record can hold them, and return their key."""
        if len(items) + beside <= self.offer_bytes:
            return None
        name = chunk_name(task.group, task.name, chunk.number, chunk.fence)
        key = self._rules.names.chunk_items(run.session_id, run.run_id, name)
        await self._store.put([Write(key, items, self._ttl(run))])
        return key

    def _ttl(self, run: Run) -> float:
        return max(0.0, run.deadline - self._clock.now()) + CLAIM_MARGIN

    def fit_into(self, record_bytes: int) -> None:
        """Note how large a record of the topic `tasks` may be."""
        self.offer_bytes = min(OFFER_BYTES, record_bytes // 2)
        self._frozen.clear()  # what travels in offers depends on it

    async def count(self, run: Run, task: Task) -> int:
        """Members of an expansion whose arrays are too large for the owner's state.

        Raises:
            ExpansionError: the arrays do not make an expansion.
            ValueGone: one of them is no longer in the store.
        """
        data = {key: value.data for key, value in (await self._resolved(run, task)).items()}
        expansion = task.order.expansion
        assert expansion is not None
        task.expanded = expand(expansion, arrays_of(task, data), limit=run.member_limit)
        return task.expanded.count

    async def _resolved(self, run: Run, task: Task) -> dict[str, Any]:
        found = visible_values(run, task)
        names, session = self._rules.names, run.session_id
        for key in _stored_arrays(task, found):
            data = await values.resolve(self._store, names, found[key].data, within=session)
            found[key] = Value(data)
        return found

    async def _freeze(self, run: Run, task: Task, *, again: bool) -> _Frozen:
        place = (run.run_id, run.admission, task.group, task.name)
        frozen = self._frozen.get(place)
        if frozen is None:
            frozen = await self._build(run, task)
            if task.order.expansion is not None:
                self._frozen[place] = frozen
            again = True
        if again and not frozen.inline:
            await self._store.put([Write(frozen.key, frozen.document, self._ttl(run))])
        return frozen

    async def _build(self, run: Run, task: Task) -> _Frozen:
        arrays = await self._arrays(run, task)
        sliced = arrays if _is_sliced(task) else None
        document = self._document(run, task, None if sliced is not None else arrays)
        one_chunk = task.order.expansion is None or task.total == 1
        inline = len(document) <= min(self.offer_bytes, ONE_CHUNK if one_chunk else SMALL)
        key = self._rules.names.task_document(run.session_id, run.run_id, task.group, task.name)
        weight = max(ENTRY_BYTES, len(document) + _stored_bytes(run, task))
        return _Frozen(document, inline, key, sliced, weight)

    async def _arrays(self, run: Run, task: Task) -> dict[str, list[Any]] | None:
        if task.order.expansion is None:
            return None
        data = {key: value.data for key, value in (await self._resolved(run, task)).items()}
        return arrays_of(task, data)

    def _document(self, run: Run, task: Task, arrays: dict[str, list[Any]] | None) -> bytes:
        found = visible_values(run, task)
        order = task.order
        if order.expansion is not None:
            mapping = {name: name for name in sources(order.expansion)}
            expansion = order.expansion.model_copy(update={"array_mapping": mapping})
            order = order.model_copy(update={"expansion": expansion})
        document = TaskDocument(
            order=order,
            group=task.group,
            run_id=run.run_id,
            session_id=run.session_id,
            context={key: value.data for key, value in found.items()},
            references=tuple(key for key, value in found.items() if value.is_reference),
            template_context={key: run.context[key] for key in order.context_keys if key in run.context},
            traceparent=run.traceparent,
            trace_every=every(task.total) if self._telemetry.wants(trace_of(run.run_id, run.traceparent)) else 0,
            arrays=arrays,
        )
        return dumps(document.model_dump(mode="json", exclude_defaults=True))


def _stored_arrays(task: Task, found: Mapping[str, Value]) -> list[str]:
    """The keys whose values the expansion reads and only the store has: the state holds a reference."""
    expansion = task.order.expansion
    paths = [path for path in sources(expansion).values() if isinstance(path, str)] if expansion else []
    return [
        key
        for key, value in found.items()
        if value.is_reference and any(path == key or path.startswith(f"{key}.") for path in paths)
    ]


def _stored_bytes(run: Run, task: Task) -> int:
    """Bytes of JSON of the arrays that were read from the store for a task."""
    found = visible_values(run, task)
    references: list[Any] = [found[key].data for key in _stored_arrays(task, found)]
    return sum(int(reference["bytes"]) for reference in references)


def _is_sliced(task: Task) -> bool:
    """Array members are made from the items of just these members; others need the whole arrays."""
    expansion = task.order.expansion
    return expansion is not None and expansion.type == "array"


def _slices(frozen: _Frozen, chunk: Chunk) -> bytes:
    if frozen.arrays is None:
        return b""
    spans = list(chunk.pending)
    slices = {
        name: [item for start, stop in spans for item in array[start:stop]]
        for name, array in frozen.arrays.items()
    }
    return dumps(slices)
