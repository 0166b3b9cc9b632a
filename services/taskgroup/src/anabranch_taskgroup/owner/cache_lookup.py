"""Computes the cache keys of a chunk's members, and reads their cached values: the shell of `session.cache`.

A key is the hash of the canonical JSON of all that the agent gets, rendered as the worker renders it, or of the
key that the request gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from anabranch.core.bounded import BoundedDict
from anabranch.core.canonical_json import NotCanonical, digest
from anabranch.core.errors import AnabranchError
from anabranch.core.expansion.members import Expanded, Member, expand
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.core.templates import RenderedTooLarge, compile_template, member_scope, placeholders, unresolved
from anabranch.core.wire.messages import CacheHit, CacheLooked, CacheOrigin
from anabranch.ports import StateStore
from anabranch.runtime.reading import values
from anabranch_taskgroup.owner.offers import Offers, TaskId, task_id
from anabranch_taskgroup.session.arrays import arrays_of
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.worker.task_templates import TaskTemplates

FORMAT = 1
"""Part of each key: a release that computes keys in another way has another number."""
EXPANSIONS = 16
"""Expanded tasks that are kept while their chunks are looked up."""

Looked = tuple[CacheLooked, list[bytes]]


class CacheReader:
    """Reads the cache for one process.

    Args:
        version_of: the version of an agent, None where this process does not know the agent.
    """

    def __init__(
        self, store: StateStore, names: Names, offers: Offers, version_of: Callable[[str], str | None]
    ) -> None:
        self._store = store
        self._names = names
        self._offers = offers
        self._version_of = version_of
        self._expanded: BoundedDict[TaskId, tuple[Expanded | None, dict[str, Any]]] = BoundedDict(EXPANSIONS)

    async def look_up(self, run: Run, task: Task, chunk: Chunk) -> Looked:
        """What the cache has for the members of a chunk, as a record.

        Raises:
            ServerUnavailable, StoreRefused: the store does not answer.
            ValueGone: a value is missing in a store that may restore it.
        """
        warning = None
        keys: list[str] = []
        expanded, context = await self._prepared(run, task)
        for index, member in _members(expanded, chunk):
            try:
                keys.append(self._key(run, task, index, member, context))
            except (NotCanonical, RenderedTooLarge) as error:
                warning = warning or f"members of {task.group}/{task.name} are not cached: {error}"
                keys.append("")
        found = await self._read(keys)
        hits, columns = self._hits(task, chunk, found)
        message = CacheLooked(
            run_id=run.run_id,
            group=task.group,
            task=task.name,
            iteration=task.iteration,
            chunk=chunk.number,
            keys=tuple(keys),
            hits=tuple(hits),
            warning=warning,
            admission=run.admission,
        )
        return message, [dumps(column) for column in columns] if hits else []

    def without(self, run: Run, task: Task, chunk: Chunk, error: AnabranchError) -> Looked:
        """The record of a chunk whose keys cannot be computed, because a value is gone, say."""
        warning = f"members of {task.group}/{task.name} are not cached: {error}"
        message = CacheLooked(
            run_id=run.run_id,
            group=task.group,
            task=task.name,
            iteration=task.iteration,
            chunk=chunk.number,
            warning=warning,
            admission=run.admission,
        )
        return message, []

    async def _prepared(self, run: Run, task: Task) -> tuple[Expanded | None, dict[str, Any]]:
        """The members of a task, and the values that its templates see: those in the store are read if they are
        mentioned."""
        known = self._expanded.get(task_id(run, task))
        if known is not None:
            return known
        order = task.order
        document = self._offers.document(run, task)
        stored = {*document.references, *document.loop_references}
        context = {**document.template_context, **document.context, **document.loop}
        mentioned = _mentioned(task)
        for key in stored:
            if any(name == key or name.startswith(f"{key}.") for name in mentioned):
                context[key] = await values.resolve(self._store, self._names, context[key], within=run.session_id)
        expanded = None
        if order.expansion is not None:
            data = await self._offers.array_values(run, task)
            expanded = expand(order.expansion, arrays_of(task, data), limit=run.member_limit)
        self._expanded[task_id(run, task)] = expanded, context
        return expanded, context

    def _key(self, run: Run, task: Task, index: int, member: Member | None, context: Mapping[str, Any]) -> str:
        order, cache = task.order, task.order.cache
        assert cache is not None
        system = {"run_id": run.run_id, "session_id": run.session_id, "task_name": task.name}
        own = {} if member is None else member.scope
        scope = member_scope(own, context, {"index": None if member is None else index}, system)
        parts: dict[str, Any] = {
            "format": FORMAT,
            "scope": [cache.scope, _owner_of(run, cache.scope)],
            "version": str(cache.version),
            "agent": order.agent,
            "result_keys": list(order.result_keys),
        }
        if cache.key is not None:
            return digest(parts | {"key": _rendered(cache.key, scope)})
        templates = TaskTemplates.of(order)
        return digest(
            parts
            | {
                "agent_version": self._version_of(order.agent),
                "message": templates.message.render(scope),
                "instructions": templates.instructions.render(scope),
                "inputs": templates.inputs.render(scope),
                "tools": list(order.tools),
                "variables": {} if member is None else member.variables,
            }
        )

    async def _read(self, keys: list[str]) -> list[dict[str, Any] | None]:
        wanted = [key for key in dict.fromkeys(keys) if key]
        stored = await self._store.get([self._names.cached(key) for key in wanted]) if wanted else []
        found = {key: orjson.loads(value) for key, value in zip(wanted, stored, strict=True) if value is not None}
        return [found.get(key) for key in keys]

    def _hits(
        self, task: Task, chunk: Chunk, found: list[dict[str, Any] | None]
    ) -> tuple[list[CacheHit], list[list[Any]]]:
        columns: list[list[Any]] = [[] for _ in task.order.result_keys]
        hits = []
        for index, document in zip(chunk.pending.indexes(), found, strict=True):
            if document is None or len(document["values"]) != len(columns):
                continue
            hits.append(CacheHit(index=index, origin=CacheOrigin.model_validate(document["origin"])))
            for column, value in zip(columns, document["values"], strict=True):
                column.append(value)
        return hits, columns


def _rendered(key: str, scope: Mapping[str, Any]) -> str:
    """The key that the request gives. One with a placeholder left in it would be the same for all members.

    Raises:
        NotCanonical: a placeholder has no value.
    """
    template = compile_template(key)
    missing = next(unresolved(template, scope), None)
    if missing is not None:
        raise NotCanonical(f"{{{missing}}} in the key has no value")
    return str(template.render(scope))


def _members(expanded: Expanded | None, chunk: Chunk) -> Iterator[tuple[int, Member | None]]:
    if expanded is None:
        yield 0, None
        return
    for start, stop in chunk.pending:
        for member in expanded.members(start, stop):
            yield member.index, member


def _mentioned(task: Task) -> frozenset[str]:
    order, cache = task.order, task.order.cache
    if cache is not None and cache.key is not None:
        return placeholders(cache.key)
    return (
        placeholders(order.message_template) | placeholders(order.shared_instructions) | placeholders(order.inputs)
    )


def _owner_of(run: Run, scope: str) -> str:
    return {"project": run.project, "session": run.session_id, "run": run.run_id}[scope]
