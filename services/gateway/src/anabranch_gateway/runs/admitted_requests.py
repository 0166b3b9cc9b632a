"""LRU cache of the requests of runs as they were admitted, read from the log, with the graphs of their tasks."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from anabranch.core.admissions import parts_of
from anabranch.core.bounded import BoundedDict
from anabranch.core.request.graph import Graph, build_graph
from anabranch.core.request.models import FINALLY, Request, TaskSpec
from anabranch.core.request.outline import outline_of
from anabranch.core.wire.codec import RUNS, Undecodable
from anabranch.core.wire.messages import SubmitRun
from anabranch.core.wire.run_record import RunRecord
from anabranch.runtime.reading.log_range import records_between
from anabranch.runtime.reading.run_records import load_run_records
from anabranch.sdk.client import Client
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.runs.lookup import ID_IS_TAKEN, FoundRun

CACHE_SIZE = 64
ADMISSION_POLLS, POLL_SECONDS = 20, 0.05
"""Number and interval of reads of the record of a run that is not admitted yet: its submitter may look it up at
once."""


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """A run's request with the graph of its tasks, in declared order."""

    request: Request
    graph: Graph
    session_keys: tuple[str, ...]

    @property
    def tasks(self) -> list[tuple[str, TaskSpec]]:
        """Group name and task, in the order of the graph. Those of `finally` are last."""
        tasks = [(group.name, task) for group in self.request.task_groups for task in group.tasks]
        return [*tasks, *((FINALLY, task) for task in self.request.finally_)]

    def spec(self, group: str, task: str) -> TaskSpec | None:
        """The task with this name; None if the request has none."""
        return next((spec for name, spec in self.tasks if name == group and spec.name == task), None)


class AdmittedRequests:
    """Reads and caches admitted requests by run id."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._requests: BoundedDict[str, AdmittedRequest] = BoundedDict(CACHE_SIZE)

    async def get(self, found: FoundRun) -> AdmittedRequest:
        """The request of a run.

        Raises:
            Refusal: 404, a request of another project has the id; 409, it is not admitted yet; 410, the log no
                longer has it.
            ServerUnavailable: the log cannot be read.
        """
        # The project is checked before the cache is read: the cached request may be that of another project.
        if found.record is None and (await self._record(found.run_id)).project != found.project:
            raise not_found(f"no such run: {found.run_id}", ID_IS_TAKEN)
        request = self._requests.get(found.run_id)
        if request is None:
            request = self._requests[found.run_id] = _admitted(await self._submission(found))
        return request

    async def document(self, found: FoundRun) -> dict[str, Any]:
        """The request as users write it, with its ids. Raises as `get`."""
        admitted = await self.get(found)
        ids = {"request_id": found.request_id, "session_id": found.session_id, "project": found.project}
        return {**ids, **admitted.request.to_document()}

    async def _submission(self, found: FoundRun) -> SubmitRun:
        record = found.record or await self._record(found.run_id)
        log, topic = self._client.log, self._client.names.runs
        _, offset = parts_of(record.offset)
        partition = await log.partition_for(topic, found.run_id)
        standing = (await log.group_standing(self._client.names.agency_runs, topic))[partition]
        if standing.first <= offset < standing.end:
            async with aclosing(records_between(log, topic, partition, offset, offset + 1)) as records:
                async for each in records:
                    if (submitted := _decoded(each.value)) is not None and submitted.run_id == found.run_id:
                        return submitted
        raise Refusal(410, "request_gone", f"the request of run {found.run_id} is no longer on the log")

    async def _record(self, run_id: str) -> RunRecord:
        for _ in range(ADMISSION_POLLS):
            [record] = await load_run_records(self._client.store, self._client.names, [run_id])
            if record is not None:
                return record
            await asyncio.sleep(POLL_SECONDS)
        raise Refusal(409, "not_admitted", f"run {run_id} is not admitted yet: retry in a moment")


def _decoded(value: bytes) -> SubmitRun | None:
    try:
        message = RUNS.decode(value).message
    except Undecodable:
        return None
    return message if isinstance(message, SubmitRun) else None


def _admitted(submitted: SubmitRun) -> AdmittedRequest:
    request = Request.model_validate(submitted.request)
    tasks = [task for group in outline_of(request) for _, task in group.tasks]
    graph = build_graph(tasks, request.context, submitted.session_keys)
    return AdmittedRequest(request, graph, submitted.session_keys)
