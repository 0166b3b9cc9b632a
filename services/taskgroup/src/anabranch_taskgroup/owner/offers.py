"""Makes the offer of a chunk from the owner's state: the task's document, and the array items of the chunk's
members.

A document is part of the offer if it is small or the task has one chunk; else it is written to the store once, for
all chunks. An offer that is made again for the same delivery is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from anabranch.core.bounded import BoundedDict
from anabranch.core.expansion.members import expand, sources
from anabranch.core.json_documents import dumps
from anabranch.core.lanes import raised
from anabranch.core.names import chunk_name
from anabranch.core.tracing import every, trace_of
from anabranch.core.wire.messages import Offer, TaskOrder
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import Clock, StateStore, Telemetry, Write
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.reading import values
from anabranch_taskgroup.owner.undo_slices import undo_slices
from anabranch_taskgroup.session.arrays import arrays_of
from anabranch_taskgroup.session.chunks import concurrency_limit
from anabranch_taskgroup.session.expiry import document_key
from anabranch_taskgroup.session.loop_values import names_of_loops
from anabranch_taskgroup.session.phase_values import names_of_phase
from anabranch_taskgroup.session.state import Group, Run, Value
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import DecisionConfig
from anabranch_taskgroup.session.undone_values import results_of_only_member
from anabranch_taskgroup.session.visible import is_under, readable_values, visible_values
from anabranch_taskgroup.session.work import handles_for, redrives_for
from anabranch_taskgroup.worker.offered import Offered

log = logging.getLogger(__name__)

MAX_INLINE_BYTES = 2_048
"""Bytes of the largest document that is part of each of a task's offers."""
MAX_SINGLE_BYTES = 200_000
"""Bytes of the largest document that is part of the only offer of a task."""
MAX_OFFER_BYTES = 500_000
"""Bytes of an offer's payload at most, or half of the record limit of its topic if that is lower."""
CACHE_BYTES = 256 * 1024 * 1024
"""Maximum total weight of the cached documents and of the arrays read from the store for them."""
ENTRY_BYTES = 256 * 1024
"""Minimum weight of a cache entry, which limits the cache to 1,024 tasks."""
CLAIM_MARGIN_SECONDS = 3_600.0


@dataclass(slots=True)
class _SharedParts:
    """The parts that all offers of one task share. `arrays` are those whose items are split among the chunks.

    `weight` is the memory that a cache entry takes, in bytes: the document, and arrays that the store holds.
    """

    document: bytes
    inline: bool
    key: str
    arrays: dict[str, list[Any]] | None
    weight: int


TaskId = tuple[str, int, str, str, tuple[int, ...]]
"""Run id, admission, group, task, iteration. Another admission of a request id has the same run id."""


def task_id(run: Run, task: Task) -> TaskId:
    return run.run_id, run.admission, task.group, task.name, task.iteration


class Offers:
    """Builds offers for one worker process; keeps what the chunks of a task share."""

    def __init__(
        self, config: DecisionConfig, store: StateStore, clock: Clock, telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self._telemetry = telemetry
        self._config = config
        self._store = store
        self._clock = clock
        self._cache: BoundedDict[TaskId, _SharedParts] = BoundedDict(CACHE_BYTES, weight=attrgetter("weight"))
        self.offer_bytes = MAX_OFFER_BYTES
        """Bytes of the largest payload of an offer."""

    async def make(self, run: Run, group: Group, task: Task, chunk: Chunk) -> Offered:
        """The offer of a chunk in its present state. Its document is in the store before this returns."""
        # A worker may have returned the chunk because the store lost the document: each further delivery writes
        # it.
        shared = await self._shared_parts(run, task, again=chunk.fence > task.first_fence)
        inline = shared.document if shared.inline else b""
        items = _slices(shared, chunk) if task.order.undoes is None else await self._undo(run, task, chunk, shared)
        items_key = await self._store_large_items(run, task, chunk, items, len(inline))
        offer = self._offer(
            run, group, task, chunk, run.deadline, None if shared.inline else shared.key, items_key
        )
        return Offered(offer, (inline, items if items_key is None else b""))

    async def make_here(self, run: Run, group: Group, task: Task, chunk: Chunk, deadline: float) -> Offered:
        """The offer of a chunk for the worker of this process.

        The document of a task without an expansion is passed as an object: it is neither encoded nor stored.

        Args:
            deadline: the run's, by the machine's clock.
        """
        if task.order.expansion is not None:
            return (await self.make(run, group, task, chunk)).with_deadline(deadline)
        offer = self._offer(run, group, task, chunk, deadline, None, None)
        return Offered(offer, (b"", b""), self._document(run, task, task.order, None))

    async def _undo(self, run: Run, task: Task, chunk: Chunk, shared: _SharedParts) -> bytes:
        """The slices of an offer of a compensation: the items and the results of the members that it undoes."""
        if task.order.expansion is None:
            return b""
        return dumps(await undo_slices(self._store, self._config.names, run, task, chunk, shared.arrays))

    def _offer(
        self,
        run: Run,
        group: Group,
        task: Task,
        chunk: Chunk,
        deadline: float,
        document_key: str | None,
        items_key: str | None,
    ) -> Offer:
        order = task.order
        priority = order.priority or run.priority
        if run.due_at is not None:
            priority = raised(priority, run.due_at - chunk.offered_at)
        limited = task.limits is not None
        return Offer(
            run_id=run.run_id,
            session_id=run.session_id,
            group=group.name,
            task=task.name,
            agent=order.agent,
            chunk=chunk.number,
            fence=chunk.fence,
            spans=tuple(chunk.pending),
            attempts=dict(chunk.attempts),
            handles=handles_for(task, chunk) if task.handles else {},
            redrives=redrives_for(task, chunk) if task.redrives else {},
            retrier_attempts=_retrier_attempts(task, chunk) if task.retrier_attempts else {},
            expanded=task.order.expansion is not None,
            concurrency=chunk.charge if limited or concurrency_limit(group, task) is not None else None,
            document_key=document_key,
            items_key=items_key,
            deadline=deadline,
            mode=chunk.mode,
            claim_ttl=self._ttl(run),
            priority=priority,
            pool=order.pool or run.pool,
            fairness_key=order.fairness_key or run.fairness_key or run.project,
            iteration=task.iteration,
            requires=task.order.requires,
            limited=limited,
            breaker=_tolerated(run, task) if run.breakers else 0,
        )

    async def _store_large_items(
        self, run: Run, task: Task, chunk: Chunk, items: bytes, document_bytes: int
    ) -> str | None:
        """Store a chunk's items if they do not fit into the offer. Returns their key, or None."""
        if len(items) + document_bytes <= self.offer_bytes:
            return None
        name = chunk_name(task.group, task.name, chunk.number, chunk.fence)
        key = self._config.names.chunk_items(run.session_id, run.run_id, name)
        await self._store.put([Write(key, items, self._ttl(run))])
        return key

    def _ttl(self, run: Run) -> float:
        return max(0.0, run.deadline - self._clock.now()) + CLAIM_MARGIN_SECONDS

    def keep_only(self, tasks: Container[TaskId]) -> None:
        """Drop what is kept of all other tasks: it is read again if one of them is offered once more."""
        for task in [task for task in self._cache if task not in tasks]:
            del self._cache[task]

    def fit_into(self, record_bytes: int) -> None:
        """Set the payload limit from the record limit of the topic of offers."""
        self.offer_bytes = min(MAX_OFFER_BYTES, record_bytes // 2)
        self._cache.clear()  # which documents are part of offers depends on the limit

    async def count(self, run: Run, task: Task) -> int:
        """The number of members of an expansion whose arrays are in the store.

        Raises:
            ExpansionError: the arrays do not make an expansion.
            ValueGone: one of them is no longer in the store.
        """
        data = {key: value.data for key, value in (await self._resolved(run, task)).items()}
        expansion = task.order.expansion
        assert expansion is not None
        return expand(expansion, arrays_of(task, data), limit=run.member_limit).count

    async def _resolved(self, run: Run, task: Task) -> dict[str, Any]:
        found = readable_values(run, task)
        names, session = self._config.names, run.session_id
        for key in _stored_arrays(task, found):
            data = await values.resolve(self._store, names, found[key].data, within=session)
            found[key] = Value(data)
        return found

    async def _shared_parts(self, run: Run, task: Task, *, again: bool) -> _SharedParts:
        cache_key = task_id(run, task)
        shared = self._cache.get(cache_key)
        if shared is None:
            shared = await self._build(run, task)
            # A task without an expansion has one chunk, and its document is not needed again.
            if task.order.expansion is not None:
                self._cache[cache_key] = shared
            again = True
        if again and not shared.inline:
            await self._store.put([Write(shared.key, shared.document, self._ttl(run))])
        return shared

    async def _build(self, run: Run, task: Task) -> _SharedParts:
        arrays = await self._arrays(run, task)
        sliced = arrays if _is_sliced(task) else None
        document = self._encoded_document(run, task, None if sliced is not None else arrays)
        one_chunk = task.order.expansion is None or task.total == 1
        inline = len(document) <= min(self.offer_bytes, MAX_SINGLE_BYTES if one_chunk else MAX_INLINE_BYTES)
        key = document_key(self._config.names, run, task)
        weight = max(ENTRY_BYTES, len(document) + _stored_bytes(run, task))
        return _SharedParts(document, inline, key, sliced, weight)

    async def _arrays(self, run: Run, task: Task) -> dict[str, list[Any]] | None:
        if task.order.expansion is None:
            return None
        data = {key: value.data for key, value in (await self._resolved(run, task)).items()}
        return arrays_of(task, data)

    def _encoded_document(self, run: Run, task: Task, arrays: dict[str, list[Any]] | None) -> bytes:
        order = task.order
        if order.expansion is not None:
            # Paths are resolved by the owner: the worker gets arrays, or slices of them, by their names.
            mapping = {name: name for name in sources(order.expansion)}
            expansion = order.expansion.model_copy(update={"array_mapping": mapping})
            order = order.model_copy(update={"expansion": expansion})
        document = self._document(run, task, order, arrays)
        return dumps(document.model_dump(mode="json", exclude_defaults=True))

    def document(self, run: Run, task: Task) -> TaskDocument:
        """The document of a task, without its arrays."""
        return self._document(run, task, task.order, None)

    async def array_values(self, run: Run, task: Task) -> dict[str, Any]:
        """The values that a task sees, by key; those that its arrays are in are read from the store.

        Raises:
            ValueGone: one of them is no longer in the store.
        """
        return {key: value.data for key, value in (await self._resolved(run, task)).items()}

    def _document(
        self, run: Run, task: Task, order: TaskOrder, arrays: dict[str, list[Any]] | None
    ) -> TaskDocument:
        found = visible_values(run, task) if order.needs else {}
        if order.undoes is not None and order.expansion is None:
            found = {**found, **results_of_only_member(run, task)}
        references = tuple([key for key, value in found.items() if value.is_reference]) if found else ()
        context = {key: value.data for key, value in found.items()} if found else {}
        shared = {key: run.context[key] for key in order.context_keys if key in run.context} if run.context else {}
        return TaskDocument(
            order=order,
            group=task.group,
            run_id=run.run_id,
            session_id=run.session_id,
            context=context,
            references=references,
            template_context=shared,
            traceparent=run.traceparent,
            trace_every=every(task.total) if self._telemetry.wants(trace_of(run.run_id, run.traceparent)) else 0,
            arrays=arrays,
            iteration=task.iteration,
            project=run.project,
            **(_names_besides(run, task) if order.loop_names or run.outcome is not None else {}),
        )


def _tolerated(run: Run, task: Task) -> int:
    """Failed attempts after which the breaker of a task's agent may open; 0 without one."""
    breaker = run.breakers.get(task.order.agent)
    return 0 if breaker is None or task.limits is None else breaker.failures or breaker.fewest_calls


def _retrier_attempts(task: Task, chunk: Chunk) -> dict[int, tuple[int, ...]]:
    return {index: made for index, made in task.retrier_attempts.items() if index in chunk.pending}


def _names_besides(run: Run, task: Task) -> dict[str, Any]:
    """What templates of a task see beside its dependencies, as fields of its document: the names of its loops
    that they mention, and those of the run's end."""
    found: dict[str, Value] = {}
    if task.order.loop_names:
        wanted = task.order.loop_names
        names = names_of_loops(run, task)
        found = {name: value for name, value in names.items() if name.partition(".")[0] in wanted}
    if run.outcome is not None:
        found |= names_of_phase(run, task)
    return {
        "loop": {name: value.data for name, value in found.items()},
        "loop_references": tuple(name for name, value in found.items() if value.is_reference),
    }


def _stored_arrays(task: Task, found: Mapping[str, Value]) -> list[str]:
    """The keys whose values the expansion reads and only the store has: the state holds a reference."""
    expansion = task.order.expansion
    paths = [path for path in sources(expansion).values() if isinstance(path, str)] if expansion else []
    return [key for key, value in found.items() if value.is_reference and is_under(key, paths)]


def _stored_bytes(run: Run, task: Task) -> int:
    """Bytes of JSON of the arrays that were read from the store for a task."""
    found = readable_values(run, task)
    references: list[Any] = [found[key].data for key in _stored_arrays(task, found)]
    return sum(int(reference["bytes"]) for reference in references)


def _is_sliced(task: Task) -> bool:
    """True if each member of an expansion needs only its own items; otherwise each needs the whole arrays."""
    expansion = task.order.expansion
    return expansion is not None and expansion.type == "array"


def _slices(shared: _SharedParts, chunk: Chunk) -> bytes:
    if shared.arrays is None:
        return b""
    spans = list(chunk.pending)
    slices = {
        name: [item for start, stop in spans for item in array[start:stop]]
        for name, array in shared.arrays.items()
    }
    return dumps(slices)
