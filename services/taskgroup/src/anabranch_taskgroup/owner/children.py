"""Requests the sub-runs of steps, asks about them, and reads their results: the shell of `steps.sub_run`.

A request is a function of values that do not change during the run, so a request that is repeated is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from anabranch.core.errors import AnabranchError, ServerUnavailable, StoreRefused, ValueGone
from anabranch.core.expansion.members import Member, expand
from anabranch.core.json_documents import dumps
from anabranch.core.names import Names
from anabranch.core.request.budget_fields import NO_LIMIT, Limit
from anabranch.core.sub_runs import mentioned_names, rendered_context, rendered_request, values_of_child
from anabranch.core.templates import member_scope
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ChildEnded, ChildValue, Message, SubmitChild
from anabranch.core.wire.results import is_reference
from anabranch.ports import Outgoing
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch.runtime.reading import values
from anabranch_taskgroup.session.arrays import array_paths, arrays_of
from anabranch_taskgroup.session.children import child_id, command_of, link_of
from anabranch_taskgroup.session.levels import inherited_by_children
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.steps.sub_run import items_in
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import AskChildren, StartChild, TakeChild
from anabranch_taskgroup.session.visible import readable_values

log = logging.getLogger(__name__)

BATCH = 100
"""Requests in one call of publish."""


class Children:
    """The requests of sub-runs of one process."""

    def __init__(self, resources: Resources, names: Names, life: StoreIdentityTracker) -> None:
        self._log = resources.log
        self._store = resources.store
        self._names = names
        self._life = life

    async def start(self, state: PartitionState, effects: Sequence[StartChild]) -> None:
        """Request sub-runs. Those that are known, or not open any more, are left out.

        Raises:
            ServerUnavailable: the log or the store is not available.
            ValueGone: a value is missing in a store that may restore it.
        """
        wanted: dict[tuple[str, str, str], list[int]] = {}
        for effect in effects:
            wanted.setdefault((effect.run_id, effect.group, effect.task), []).append(effect.index)
        for (run_id, group, name), indexes in wanted.items():
            run, task = _step(state, run_id, group, name)
            if run is not None and task is not None:
                await self._request(run, task, indexes)

    async def ask(self, state: PartitionState, effects: Sequence[AskChildren]) -> None:
        """Request again the sub-runs that are not known, and ask about the others. Those of a stopped step are
        cancelled again instead."""
        for effect in effects:
            run, task = _step(state, effect.run_id, effect.group, effect.task)
            if run is None or task is None or not task.children:
                continue
            assert task.order.run is not None
            is_cancelled = task.stopping is not None and task.order.run.on_parent_end == "cancel"
            asked = [index for index in task.children if is_cancelled or index in task.known_children]
            action: Any = "cancel" if is_cancelled else "check"
            commands = [command_of(run, task, index, task.children[index], action) for index in asked]
            await self._publish(Outgoing(self._names.runs, each.run_id, encode(each)) for each in commands)
            if not is_cancelled:
                await self._request(run, task, list(task.children))

    async def take(self, state: PartitionState, effects: Sequence[TakeChild]) -> None:
        """Read the results of sub-runs, and append them as the values of their members."""
        for effect in effects:
            run, task = _step(state, effect.run_id, effect.group, effect.task)
            if run is not None and task is not None and (task.children or {}).get(effect.index) == effect.attempt:
                message, segments = await self._taken(run, task, effect)
                await self._publish([Outgoing(self._names.groups, run.session_id, encode(message, segments))])

    # --- requests ------------------------------------------------------------------------------------

    async def _request(self, run: Run, task: Task, indexes: Sequence[int]) -> None:
        wanted = [
            index for index in indexes if index in (task.children or {}) and index not in task.known_children
        ]
        if not wanted:
            return
        try:
            scopes = await self._scopes(run, task, wanted)
            records = (self._submission(run, task, index, scope) for index, scope in scopes)
            await self._publish(records)
        except (ServerUnavailable, StoreRefused):
            raise
        except ValueGone as gone:
            if not await self._life.is_restored():
                raise
            await self._publish(self._rejections(run, task, wanted, str(gone)))

    async def _scopes(
        self, run: Run, task: Task, indexes: Sequence[int]
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        data = await self._values(run, task)
        order = task.order
        members: Mapping[int, Member] = {}
        if order.expansion is not None:
            expanded = expand(order.expansion, arrays_of(task, data), limit=run.member_limit)
            members = {index: next(expanded.members(index, index + 1)) for index in indexes}
        context = {**{key: run.context[key] for key in order.context_keys if key in run.context}, **data}
        system = {"run_id": run.run_id, "session_id": run.session_id, "task_name": task.name}

        def scoped() -> Iterator[tuple[int, Mapping[str, Any]]]:
            for index in indexes:
                member = members.get(index)
                number = None if member is None else index
                yield index, member_scope(member.scope if member else {}, context, {"index": number}, system)

        return scoped()

    async def _values(self, run: Run, task: Task) -> dict[str, Any]:
        """The values that a step sees. Those in the store are read if its templates or arrays mention them."""
        assert task.order.run is not None
        mentioned = [*mentioned_names(task.order.run), *array_paths(task)]
        found: dict[str, Any] = {}
        for key, value in readable_values(run, task).items():
            is_mentioned = any(name == key or name.startswith(f"{key}.") for name in mentioned)
            if not value.is_reference:
                found[key] = value.data
            elif is_mentioned:
                found[key] = await values.resolve(self._store, self._names, value.data, within=run.session_id)
        return found

    def _submission(self, run: Run, task: Task, index: int, scope: Mapping[str, Any]) -> Outgoing:
        """The request of a sub-run; a rejection if its templates cannot be rendered."""
        order, attempt = task.order.run, (task.children or {}).get(index, 1)
        assert order is not None
        child = child_id(run.run_id, task, index, attempt)
        try:
            message = SubmitChild(
                run_id=child.run_id,
                request_id=child.request_id,
                parent=link_of(run, task, index, attempt),
                project=run.project,
                session_id=run.session_id if order.session == "shared" else None,
                request=rendered_request(order, scope),
                definition=order.definition,
                context=rendered_context(order, scope),
                timeout=task.order.timeout,
                inherited=inherited_by_children(run, task),
                traceparent=run.traceparent,
                budget=_limit_of(task, index),
            )
        except AnabranchError as error:
            [rejection] = self._rejections(run, task, [index], f"{type(error).__name__}: {error}")
            return rejection
        return Outgoing(self._names.runs, child.run_id, encode(message))

    def _rejections(self, run: Run, task: Task, indexes: Sequence[int], why: str) -> Iterator[Outgoing]:
        for index in indexes:
            attempt = (task.children or {}).get(index, 1)
            message = ChildEnded(
                **_member(run, task, index, attempt),
                child_run_id=child_id(run.run_id, task, index, attempt).run_id,
                status="rejected",
                message=why,
            )
            yield Outgoing(self._names.groups, run.session_id, encode(message))

    # --- results -------------------------------------------------------------------------------------

    async def _taken(self, run: Run, task: Task, effect: TakeChild) -> tuple[Message, list[bytes]]:
        about = _member(run, task, effect.index, effect.attempt)
        order = task.order
        assert order.run is not None
        try:
            results = await self._results(effect)
            found = values_of_child(order.run, order.result_keys, order.optional_result_keys, results)
            segments = [dumps([value]) for value in found]
            if order.expansion is not None and order.expansion.output_format == "separate":
                segments.append(dumps([await self._identifier(run, task, effect.index)]))
            return ChildValue(**about, items=items_in(task, found), costs=effect.costs), segments
        except (ServerUnavailable, StoreRefused):
            raise
        except ValueGone as gone:
            if not await self._life.is_restored():
                raise
            why = f"the results of run {effect.child_run_id} are gone: {gone}"
            return ChildValue(**about, error=why, costs=effect.costs), []
        except AnabranchError as error:
            return ChildValue(**about, error=f"{type(error).__name__}: {error}", costs=effect.costs), []

    async def _results(self, effect: TakeChild) -> Mapping[str, Any]:
        """The results of a child. Its references are resolved within its own session."""
        session = effect.child_session_id

        async def resolved(value: Any) -> Any:
            if not is_reference(value, session):
                return value
            return await values.resolve(self._store, self._names, value, within=session)

        results = await resolved(effect.results)
        return {key: await resolved(value) for key, value in results.items()}

    async def _identifier(self, run: Run, task: Task, index: int) -> str:
        expansion = task.order.expansion
        assert expansion is not None
        expanded = expand(expansion, arrays_of(task, await self._values(run, task)), limit=run.member_limit)
        [member] = expanded.members(index, index + 1)
        return str(index) if member.identifier is None else member.identifier

    async def _publish(self, records: Iterable[Outgoing]) -> None:
        batch: list[Outgoing] = []
        for record in records:
            batch.append(record)
            if len(batch) == BATCH:
                await self._log.publish(batch)
                batch = []
        if batch:
            await self._log.publish(batch)


def _step(state: PartitionState, run_id: str, group: str, name: str) -> tuple[Run | None, Task | None]:
    run = state.runs.get(run_id)
    task = run.task(group, name) if run is not None else None
    return run, None if task is None or task.is_over else task


def _member(run: Run, task: Task, index: int, attempt: int) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "group": task.group,
        "task": task.name,
        "index": index,
        "iteration": task.iteration,
        "attempt": attempt,
        "admission": run.admission,
    }


def _limit_of(task: Task, index: int) -> Limit | None:
    """The budget of a sub-run; None if nothing limits it."""
    limit = task.child_limits.get(index, NO_LIMIT)
    return None if limit == NO_LIMIT else limit
