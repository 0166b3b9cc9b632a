"""LRU cache of task documents: what all chunks of a task need, loaded and compiled once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from anabranch.core.admissions import admission_of
from anabranch.core.bounded import BoundedDict
from anabranch.core.errors import AnabranchError
from anabranch.core.expansion.members import Member, expand
from anabranch.core.names import Names
from anabranch.core.request.models import RetryPolicy
from anabranch.core.templates import Template, compile_template
from anabranch.core.wire.messages import Json, Offer, TaskOrder
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import StateStore
from anabranch.runtime.reading import values
from anabranch.sdk.agents import AgentDeclaration, Registry
from anabranch_taskgroup.worker.attempt_errors import AttemptErrors
from anabranch_taskgroup.worker.template_memory import Weight
from anabranch_taskgroup.worker.tracing import TaskTrace

CACHE_SIZE = 256
"""Maximum documents that a worker caches."""

DocumentId = tuple[str, int, str, str]
"""Run id, admission, group, task."""


class DocumentMissing(AnabranchError):
    """The store does not have the task's document, or the items of an offer. The owner has to write them again."""


@dataclass(slots=True)
class Prepared:
    """A task that is ready to run members. `context` has the values of its dependencies, by key."""

    order: TaskOrder
    agent: AgentDeclaration
    context: Mapping[str, Json]
    template_context: Mapping[str, Json]
    message: Template
    instructions: Template
    inputs: Template
    has_texts: bool
    """True if message and instructions are texts: members may share them, because no agent can change them."""
    arrays: dict[str, list[Json]] | None
    retry: RetryPolicy | None
    timeout: float | None
    trace: TaskTrace
    errors: AttemptErrors
    weight: Weight
    """The size of its rendered templates."""
    document_bytes: int


def prepare(
    document: TaskDocument,
    context: Mapping[str, Json],
    agent: AgentDeclaration,
    trace: TaskTrace,
    errors: AttemptErrors,
    document_bytes: int,
) -> Prepared:
    """Compile a document. Retry policy and timeout of the request override those of the agent's declaration."""
    order = document.order
    # Values of dependencies take precedence over the context of the request under the same key.
    template_context = {**document.template_context, **context}
    message, instructions = compile_template(order.message_template), compile_template(order.shared_instructions)
    inputs = compile_template(order.inputs, typed=True)
    return Prepared(
        order=order,
        agent=agent,
        context=context,
        template_context=template_context,
        message=message,
        instructions=instructions,
        inputs=inputs,
        has_texts=_is_text(order.message_template) and _is_text(order.shared_instructions),
        arrays=document.arrays,
        retry=order.retry if order.retry is not None else agent.retry,
        timeout=order.timeout if order.timeout is not None else agent.timeout,
        trace=trace,
        errors=errors,
        weight=Weight.of((message, instructions, inputs), template_context),
        document_bytes=document_bytes,
    )


def _is_text(template: Json) -> bool:
    return template is None or isinstance(template, str)


def members_of(
    prepared: Prepared, offer: Offer, slices: Mapping[str, list[Json]] | None
) -> Iterator[tuple[int, Member | None]]:
    """The (index, member) pairs of an offer, in order; (0, None) for a task that is not expanded.

    Args:
        slices: for an array expansion, the items of only these members.
    """
    expansion = prepared.order.expansion
    if expansion is None:
        yield 0, None
        return
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
    """

    def __init__(
        self,
        store: StateStore,
        names: Names,
        registry: Registry,
        trace: Callable[[TaskDocument], TaskTrace],
        errors: Callable[[], AttemptErrors],
    ) -> None:
        self._store = store
        self._trace = trace
        self._errors = errors
        self._names = names
        self._registry = registry
        self._cache: BoundedDict[DocumentId, Prepared] = BoundedDict(CACHE_SIZE)

    async def get(self, offer: Offer, inline: bytes) -> Prepared:
        """The prepared task of an offer.

        Raises:
            DocumentMissing: neither the offer nor the store has its document.
            ValueGone: a value that the document refers to has expired.
            ServerUnavailable: the store does not answer.
        """
        key = (offer.run_id, admission_of(offer.fence), offer.group, offer.task)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        data = inline or await self._load(offer)
        # Not `model_validate_json`: its parser accepts 200 levels. A value may have 200 itself, and the document
        # adds some around it.
        document = TaskDocument.model_validate(orjson.loads(data))
        agent = self._registry.get(offer.agent)
        assert agent is not None, "offers of unknown agents are handed back before"
        context = await self._context(document)
        prepared = prepare(document, context, agent, self._trace(document), self._errors(), len(data))
        if offer.expanded:  # any other task has one chunk, and its document is not needed again
            self._cache[key] = prepared
        return prepared

    async def _load(self, offer: Offer) -> bytes:
        if offer.document_key is None:
            raise DocumentMissing(f"the offer of {offer.group}/{offer.task} has no document")
        [found] = await self._store.get([offer.document_key])
        if found is None:
            raise DocumentMissing(f"{offer.document_key} is not in the store")
        return found

    async def _context(self, document: TaskDocument) -> Mapping[str, Json]:
        context = dict(document.context)
        for key in document.references:
            context[key] = await values.resolve(self._store, self._names, context[key], within=document.session_id)
        return context

    async def items(self, offer: Offer, inline: bytes) -> bytes:
        """The slices of arrays of an offer: those in it, or those that the store has for it.

        Raises:
            DocumentMissing: the store does not have them.
            ServerUnavailable: the store does not answer.
        """
        if offer.items_key is None:
            return inline
        [found] = await self._store.get([offer.items_key])
        if found is None:
            raise DocumentMissing(f"{offer.items_key} is not in the store")
        return found


def slices_of(segment: bytes) -> dict[str, list[Json]] | None:
    """The slices of arrays in a segment of an offer; None if it is empty."""
    if not segment:
        return None
    found: dict[str, list[Json]] = orjson.loads(segment)
    return found
