"""LRU cache of task documents: what all chunks of a task need, loaded and compiled once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from anabranch.core.admissions import admission_of
from anabranch.core.bounded import BoundedDict
from anabranch.core.errors import AnabranchError
from anabranch.core.expansion.members import Member, expand
from anabranch.core.names import Names
from anabranch.core.request.models import Expansion, RetryPolicy
from anabranch.core.templates import Template, compile_template
from anabranch.core.wire.messages import Json, Offer, TaskOrder
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import StateStore
from anabranch.runtime.reading import values
from anabranch.sdk.agents import AgentDeclaration, Registry
from anabranch.sdk.event_publisher import EventPublisher
from anabranch_taskgroup.worker.attempt_errors import AttemptErrors
from anabranch_taskgroup.worker.offered import ChunkKey, Offered
from anabranch_taskgroup.worker.task_templates import TaskTemplates, TemplateCache
from anabranch_taskgroup.worker.template_memory import WEIGHTLESS, Weight
from anabranch_taskgroup.worker.tracing import TaskTrace
from anabranch_taskgroup.worker.undone_members import undone_members

CACHE_SIZE = 256
"""Maximum documents that a worker caches."""

LOCAL_BYTES = 2_000
"""Bytes of a value that a member of a local document has for itself: the names of its run, session and task."""

ONLY_MEMBER: tuple[tuple[int, None], ...] = ((0, None),)
"""The members of a task that is not expanded."""

DocumentId = tuple[str, int, str, str, tuple[int, ...]]
"""Run id, admission, group, task, iteration."""


class DocumentMissing(AnabranchError):
    """The store does not have the task's document, or the items of an offer. The owner has to write them again."""


@dataclass(slots=True)
class Prepared:
    """A task that is ready to run members. `context` has the values of its dependencies, by key."""

    order: TaskOrder
    agent: AgentDeclaration
    context: Mapping[str, Json]
    template_context: Mapping[str, Json]
    templates: TaskTemplates
    arrays: dict[str, list[Json]] | None
    retry: RetryPolicy | None
    retriers: tuple[RetryPolicy, ...]
    """In place of `retry`, if it is not empty."""
    timeout: float | None
    trace: TaskTrace
    make_errors: Callable[[], AttemptErrors]
    weight: Weight
    """The size of its rendered templates."""
    document_bytes: int
    """Bytes of the document, as an upper bound of the values of one member."""
    undone_inputs: Template | None = None
    """Of a compensation: the inputs of the task that it undoes."""
    events: EventPublisher | None = None
    _errors: AttemptErrors | None = None

    @property
    def errors(self) -> AttemptErrors:
        """The limits of the task's failed attempts. Made on first use, because nearly no task has any."""
        if self._errors is None:
            self._errors = self.make_errors()
        return self._errors


def prepare(
    document: TaskDocument,
    context: Mapping[str, Json],
    agent: AgentDeclaration,
    templates: TaskTemplates,
    trace: TaskTrace,
    make_errors: Callable[[], AttemptErrors],
    document_bytes: int,
    loop: Mapping[str, Json],
) -> Prepared:
    """Prepare a document. Retry policy and timeout of the request override those of the agent's declaration.

    Args:
        loop: the names of its loops that the task sees.
    """
    order = document.order
    # Values of dependencies take precedence over the context of the request under the same key, and names of loops
    # over both.
    template_context = {**document.template_context, **context, **loop}
    compiled = (templates.message, templates.instructions, templates.inputs)
    return Prepared(
        order=order,
        agent=agent,
        context=context,
        template_context=template_context,
        templates=templates,
        arrays=document.arrays,
        retry=order.retry if order.retry is not None else agent.retry,
        retriers=order.retriers,
        timeout=order.timeout if order.timeout is not None else agent.timeout,
        trace=trace,
        make_errors=make_errors,
        weight=Weight.of(compiled, template_context) if templates.inserts_text else WEIGHTLESS,
        document_bytes=document_bytes,
        undone_inputs=None if order.undoes is None else compile_template(order.undoes.inputs, typed=True),
    )


def members_of(
    prepared: Prepared, offer: Offer, slices: Mapping[str, list[Json]] | None
) -> Iterator[tuple[int, Member | None]]:
    """The (index, member) pairs of an offer, in order; (0, None) for a task that is not expanded.

    Args:
        slices: for an array expansion, the items of only these members.
    """
    expansion = prepared.order.expansion
    if expansion is None:
        return iter(ONLY_MEMBER)
    if prepared.order.undoes is not None and slices is not None:
        return undone_members(expansion, prepared.arrays, offer, slices)
    return _expanded_members(prepared, expansion, offer, slices)


def _expanded_members(
    prepared: Prepared, expansion: Expansion, offer: Offer, slices: Mapping[str, list[Json]] | None
) -> Iterator[tuple[int, Member | None]]:
    arrays = prepared.arrays if slices is None else slices
    # The owner has checked the identifiers of all members when it expanded the task.
    expanded = expand(expansion, arrays or {}, check_identifiers=False)
    if slices is None:
        for start, stop in offer.spans:
            for member in expanded.members(start, stop):
                yield member.index, member
        return
    indexes = (index for start, stop in offer.spans for index in range(start, stop))
    has_identifiers = bool(expansion.identifiers)
    # Members of slices are numbered from 0, and so are identifiers that are made of the index.
    for index, member in zip(indexes, expanded.members(), strict=True):
        member.index = index
        if not has_identifiers:
            member.identifier = str(index)
        yield index, member


class TaskDocuments:
    """Loads the documents of offered tasks, and resolves the references in them.

    Args:
        trace: creates the trace of a task's members.
        errors: creates the limits of a task's failed attempts.
        events: publishes the events of agents.
    """

    def __init__(
        self,
        store: StateStore,
        names: Names,
        registry: Registry,
        trace: Callable[[TaskDocument], TaskTrace],
        errors: Callable[[], AttemptErrors],
        events: EventPublisher,
    ) -> None:
        self._store = store
        self._trace = trace
        self._errors = errors
        self._events = events
        self._names = names
        self._registry = registry
        self._templates = TemplateCache()
        self._cache: BoundedDict[DocumentId, Prepared] = BoundedDict(CACHE_SIZE)

    def at_hand(self, offered: Offered) -> Prepared | None:
        """The prepared task of an offer; None if something of it has to be read from the store."""
        offer = offered.offer
        if offer.expanded:
            cached = self._cache.get(_id_of(offer))
            if cached is not None:
                return cached
        document = offered.document
        if document is None:
            if not offered.segments[0]:
                return None
            document = _parsed(offered.segments[0])
        if document.references or document.loop_references:
            return None
        size = len(offered.segments[0]) or LOCAL_BYTES
        return self._prepared(offer, document, document.context, document.loop, size)

    async def get(self, offered: Offered) -> Prepared:
        """The prepared task of an offer.

        Raises:
            DocumentMissing: neither the offer nor the store has its document.
            ValueGone: a value that the document refers to has expired.
            ServerUnavailable: the store does not answer.
        """
        offer = offered.offer
        cached = self._cache.get(_id_of(offer))
        if cached is not None:
            return cached
        document, size = offered.document, LOCAL_BYTES
        if document is None:
            data = offered.segments[0] or await self._load(offer)
            document, size = _parsed(data), len(data)
        context = await self._resolved(document, document.context, document.references)
        loop = await self._resolved(document, document.loop, document.loop_references)
        return self._prepared(offer, document, context, loop, size)

    def _prepared(
        self,
        offer: Offer,
        document: TaskDocument,
        context: Mapping[str, Json],
        loop: Mapping[str, Json],
        document_bytes: int,
    ) -> Prepared:
        agent = self._registry.get(offer.agent)
        assert agent is not None, "offers of unknown agents are handed back before"
        templates = self._templates.of(document.order)
        prepared = prepare(
            document, context, agent, templates, self._trace(document), self._errors, document_bytes, loop
        )
        prepared.events = self._events
        if offer.expanded:  # any other task has one chunk, and its document is not needed again
            self._cache[_id_of(offer)] = prepared
        return prepared

    def keep_only(self, deliveries: Iterable[ChunkKey]) -> None:
        """Drop the documents of tasks that none of these deliveries is of. Further offers load theirs again."""
        held = {(run_id, admission_of(fence), group, task) for run_id, group, task, _, fence in deliveries}
        for task in [task for task in self._cache if task[:4] not in held]:
            del self._cache[task]

    async def _load(self, offer: Offer) -> bytes:
        if offer.document_key is None:
            raise DocumentMissing(f"the offer of {offer.group}/{offer.task} has no document")
        [found] = await self._store.get([offer.document_key])
        if found is None:
            raise DocumentMissing(f"{offer.document_key} is not in the store")
        return found

    async def _resolved(
        self, document: TaskDocument, found: Mapping[str, Json], references: Iterable[str]
    ) -> Mapping[str, Json]:
        resolved = dict(found)
        for key in references:
            resolved[key] = await values.resolve(
                self._store, self._names, resolved[key], within=document.session_id
            )
        return resolved

    async def items(self, offered: Offered) -> bytes:
        """The slices of arrays of an offer: those in it, or those that the store has for it.

        Raises:
            DocumentMissing: the store does not have them.
            ServerUnavailable: the store does not answer.
        """
        key = offered.offer.items_key
        if key is None:
            return offered.segments[1]
        [found] = await self._store.get([key])
        if found is None:
            raise DocumentMissing(f"{key} is not in the store")
        return found


def _id_of(offer: Offer) -> DocumentId:
    return offer.run_id, admission_of(offer.fence), offer.group, offer.task, offer.iteration


def _parsed(data: bytes) -> TaskDocument:
    # Not `model_validate_json`: its parser accepts 200 levels. A value may have 200 itself, and the document adds
    # some around it.
    return TaskDocument.model_validate(orjson.loads(data))


def slices_of(segment: bytes) -> dict[str, list[Json]]:
    """The slices of arrays in a segment of an offer."""
    found: dict[str, list[Json]] = orjson.loads(segment)
    return found
