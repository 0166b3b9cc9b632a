"""The request of a run as it was admitted, read off the log, with the graph of its tasks. Kept for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anabranch.core.admissions import parts_of
from anabranch.core.request.graph import Graph, build_graph
from anabranch.core.request.models import Request, TaskSpec
from anabranch.core.request.outline import facts_of
from anabranch.core.wire.codec import RUNS, Undecodable
from anabranch.core.wire.messages import SubmitRun
from anabranch.core.wire.run_record import RunRecord
from anabranch.runtime.reading.log_range import records_between
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.sdk.client import Client
from anabranch_gateway.http.problems import Refusal, not_found

if TYPE_CHECKING:
    from anabranch_gateway.runs.lookup import Found

KEPT = 64
ADMISSION_LOOKS, POLL_SECONDS = 20, 0.05
"""A run that was submitted a moment ago is waited for so long: whoever submits it looks at it at once."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A run's request with the graph of its tasks, in declared order."""

    request: Request
    graph: Graph
    session_keys: tuple[str, ...]

    @property
    def tasks(self) -> list[tuple[str, TaskSpec]]:
        """Group and task, in the order of the graph."""
        return [(group.name, task) for group in self.request.task_groups for task in group.tasks]

    def spec(self, group: str, task: str) -> TaskSpec | None:
        return next((spec for name, spec in self.tasks if name == group and spec.name == task), None)


class Requests:
    """The last ones that somebody looked at."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: OrderedDict[str, Admitted] = OrderedDict()

    async def of(self, found: Found) -> Admitted:
        """The run's request.

        Raises:
            Refusal: 404, a request of another project has the id; 409, it is not admitted yet; 410, the log no
                longer has it.
            ServerUnavailable: the log cannot be read.
        """
        if found.tombstone is None and (await self._tombstone(found.run_id)).project != found.project:
            raise not_found(f"no such run: {found.run_id}", "a request of another project has this request id")
        kept = self._kept.get(found.run_id)
        if kept is None:
            kept = _admitted(await self._submission(found))
            self._kept[found.run_id] = kept
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(found.run_id)
        return kept

    async def document(self, found: Found) -> dict[str, Any]:
        """The request as users write it, with its ids."""
        admitted = await self.of(found)
        ids = {"request_id": found.request_id, "session_id": found.session_id, "project": found.project}
        return {**ids, **admitted.request.to_document()}

    async def _submission(self, found: Found) -> SubmitRun:
        tombstone = found.tombstone or await self._tombstone(found.run_id)
        log, topic = self._client.log, self._client.names.runs
        _, offset = parts_of(tombstone.offset)
        partition = await log.partition_for(topic, found.run_id)
        standing = (await log.group_standing(self._client.names.agency_runs, topic))[partition]
        if standing.first <= offset < standing.end:
            async with aclosing(records_between(log, topic, partition, offset, offset + 1)) as records:
                async for record in records:
                    if (submitted := _decoded(record.value)) is not None and submitted.run_id == found.run_id:
                        return submitted
        raise Refusal(410, "request_gone", f"the request of run {found.run_id} is no longer on the log")

    async def _tombstone(self, run_id: str) -> RunRecord:
        for _ in range(ADMISSION_LOOKS):
            [record] = await load_run_records(self._client.store, self._client.names, [run_id])
            if record is not None:
                return record
            await asyncio.sleep(POLL_SECONDS)
        raise Refusal(409, "not_admitted", f"run {run_id} is not admitted yet: ask again in a moment")


def _decoded(value: bytes) -> SubmitRun | None:
    try:
        message = RUNS.decode(value).message
    except Undecodable:
        return None
    return message if isinstance(message, SubmitRun) else None


def _admitted(submitted: SubmitRun) -> Admitted:
    request = Request.model_validate(submitted.request)
    tasks = [task for group in facts_of(request) for _, task in group.tasks]
    return Admitted(request, build_graph(tasks, request.context, submitted.session_keys), submitted.session_keys)
