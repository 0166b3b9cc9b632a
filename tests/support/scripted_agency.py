"""An Agency played by a test: it reads requests and publishes what the test chooses, over the memory log. For
tests of the client, which uses only the topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names, run_id_for
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.events import EventBatch, EventEntry, encode_batch
from anabranch.core.wire.run_record import RunRecord
from anabranch.ports import Outgoing, TopicSpec, Write
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.ids import SystemIds
from anabranch.sdk.client import Client

REQUEST: Mapping[str, Any] = {
    "request_id": "r1",
    "task_groups": [{"name": "g", "tasks": [{"name": "t", "agent": "echo", "result_keys": ["x"]}]}],
}


@dataclass
class ScriptedAgency:
    """The servers in memory, and the agency's side of the topics."""

    names: Names = field(default_factory=Names)
    clock: SystemClock = field(default_factory=SystemClock)
    causes: int = 0

    def __post_init__(self) -> None:
        self.broker = MemoryBroker()
        self.log = MemoryLog(self.broker, self.clock)
        self.server = MemoryServer(self.clock)
        self.store = MemoryStore(self.server)

    async def start(self) -> None:
        await self.log.create_topics([TopicSpec(name, 3) for name in self.names.topics])

    def client(self) -> Client:
        notifier = MemoryNotifier(self.server)
        log = MemoryLog(self.broker, self.clock)
        return Client.over(log, self.store, notifier, self.names, self.clock, SystemIds(self.clock))

    async def requests(self) -> list[tuple[str | None, dict[str, Any], dict[str, bytes]]]:
        """Key, body and headers of all records on the requests topic."""
        found = []
        for partition in range(3):
            async with self.log.read(self.names.requests, [partition], "earliest") as reader:
                left = (await reader.end_offsets())[partition]
                async for batch in reader if left else _empty():
                    found += [
                        (r.key.decode() if r.key else None, orjson.loads(r.value), dict(r.headers)) for r in batch
                    ]
                    left -= len(batch)
                    if left <= 0:
                        break
        return found

    async def finish(self, request_id: str = "r1", status: str = "completed", **body: Any) -> None:
        """Publish a final record."""
        await self.say(f"run.{status}", request_id, self.final(request_id, status, **body), "final")

    def final(self, request_id: str = "r1", status: str = "completed", **body: Any) -> dict[str, Any]:
        counts = {"total": 1, "completed": 1, "failed": 0, "skipped": 0}
        final = {"results": {}, "failures": [], "executions": counts, "duration_seconds": 0.5, "warnings": []}
        return {**self._ids(request_id), "status": status, **final, **body}

    async def publish_result(self, key: str, value: Any, request_id: str = "r1") -> None:
        body = {**self._ids(request_id), "status": "running", "task_name": "t", "result_key": key, "value": value}
        await self.say("result.published", request_id, body, f"result/{key}")

    async def reject(self, code: str, request_id: str = "r1") -> None:
        errors = [{"code": code, "path": "", "message": "no", "hint": ""}]
        body = {**self._ids(request_id), "status": "rejected", "errors": errors, "warnings": []}
        await self.say("run.rejected", request_id, body, "rejected", key=request_id)

    async def say(
        self, kind: str, request_id: str, body: dict[str, Any], event: str, key: str | None = None
    ) -> None:
        run_id = run_id_for(request_id)
        headers = cloud_event_headers(kind, f"{run_id}/{event}", self.clock.now(), subject=run_id)
        record = Outgoing(self.names.results, key or run_id, orjson.dumps(body), headers)
        await self.log.publish([record])

    async def remember(self, body_hash: str | None, final: dict[str, Any] | None, request_id: str = "r1") -> None:
        """Store the documents that an Agency stores for a run."""
        ids = self._ids(request_id)
        record = RunRecord(body_hash, 0, ids["session_id"], request_id, accepted=ids, accepted_at=0.0, final=final)
        await self.store.put([Write(self.names.tombstone(ids["run_id"]), record.encode(), 60.0)])

    async def publish_events(self, entries: Sequence[Mapping[str, Any]], request_id: str = "r1") -> None:
        """Publish a batch of events with the same cause."""
        self.causes += 1
        run_id = run_id_for(request_id)
        batch = EventBatch(
            run_id=run_id,
            session_id=run_id,
            source="groups",
            entries=tuple(EventEntry(**{"cause": self.causes, "time": 1.5, **entry}) for entry in entries),
        )
        await self.log.publish([Outgoing(self.names.events, run_id, encode_batch(batch))])

    def _ids(self, request_id: str) -> dict[str, str]:
        run_id = run_id_for(request_id)
        return {"request_id": request_id, "run_id": run_id, "session_id": run_id}


async def _empty() -> Any:
    return
    yield
