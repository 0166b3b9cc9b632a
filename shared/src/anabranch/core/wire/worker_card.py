"""What a worker announces about itself: its place, its load and its agents. Pure.

The card is a value in the store. A heartbeat writes it again if it has changed, once a minute, and when the worker
notices that the store was replaced. So a store that restarted empty has the cards of all live workers again within
seconds. A card outlives its worker for some minutes: the worker's liveness key says whether it lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anabranch.core.json_documents import dumps
from anabranch.core.lanes import DEFAULT_POOL, DEFAULT_PRIORITY, Priority
from anabranch.core.names import capability_of
from anabranch.core.requirements import Offers, offers_of, show_amount
from anabranch.core.wire.message_parts import Json, Message, empty_object

MAX_SCHEMA_BYTES = 100_000
"""Bytes of JSON of all schemas of a card, at most: further schemas are left out."""


class AgentCard(Message):
    """An agent as its worker declares it."""

    name: str
    version: str | None = None
    capabilities: tuple[str, ...] = ()
    input_schema: dict[str, Json] | None = None
    output_schema: dict[str, Json] | None = None
    retry: dict[str, Json] | None = None
    """The default policy for failed attempts, as in a request."""
    timeout: float | None = None
    """The default timeout of an attempt, in seconds."""
    max_concurrency: int | None = None
    kind: str = "in-process"
    """How its worker executes it: by a call, or as a program of this kind."""
    program: dict[str, Json] | None = None
    """What it runs, without secrets: see `core.programs.summary`. Null for a call, and for an agent whose requests
    name the program."""

    def to_document(self) -> dict[str, Json]:
        """The agent as `anabranch agents --json` shows it, without its workers."""
        schema = {"input": self.input_schema, "output": self.output_schema}
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.kind,
            "program": self.program,
            "capabilities": list(self.capabilities),
            "schema": schema,
            "retry": self.retry,
            "timeout": self.timeout,
            "max_concurrency": self.max_concurrency,
        }


class Load(Message):
    """What a worker has under way."""

    chunks: int = 0
    """Chunks that it has claimed."""
    members: int = 0
    """Members that run: slots in use."""


class LaneBacklog(Message):
    """What is left to do of one level and pool, for the sessions of one process."""

    pool: str = DEFAULT_POOL
    level: Priority = DEFAULT_PRIORITY
    members: int = 0
    """Members that have not begun."""
    seconds: float = 0.0
    """Predicted seconds of work of all members that have not ended: their number times the measured mean duration
    of a member of their task."""
    unmeasured: int = 0
    """Members that have not ended of tasks without a measured member: they are not in `seconds`."""


class WorkerCard(Message):
    """A live worker. `id` is its name in events, and another one in each life of a process."""

    id: str
    host: str = ""
    pid: int = 0
    version: str = ""
    """Version of Anabranch."""
    pool: str = DEFAULT_POOL
    slots: int = 0
    """Members that may run at once."""
    started_at: float | None = None
    """Seconds since the epoch."""
    draining: bool = False
    """It takes no further members, because it stops."""
    load: Load = Load()
    offers: dict[str, Json] = empty_object()
    """What it offers in all, as a document of `core.requirements.Offers`."""
    used: dict[str, int] = empty_object()
    """What its chunks hold of that, by resource: of `cpu` and `gpu` in thousandths, else in bytes."""
    agents: tuple[AgentCard, ...] = ()
    backlog: tuple[LaneBacklog, ...] = ()
    """What is left to do for the sessions that the process owns, in any pool."""

    @property
    def offered(self) -> Offers:
        """What it offers in all."""
        return offers_of(self.offers)

    def to_document(self) -> dict[str, Json]:
        """The worker as `anabranch workers --json` shows it: its agents by name."""
        found: dict[str, Json] = self.model_dump(mode="json", exclude={"agents", "backlog"})
        used = {name: show_amount(name, self.used.get(name, 0)) for name in self.offered.amounts}
        return found | {"used": used, "agents": [each.name for each in self.agents]}

    def encode(self) -> bytes:
        """The value in the store."""
        # `exclude_defaults` leaves nothing out that a reader needs: it has the same defaults.
        return dumps(self.model_dump(mode="json", exclude_defaults=True))


def without_large_schemas(agents: Iterable[AgentCard]) -> tuple[AgentCard, ...]:
    """The same agents; of those after the first `MAX_SCHEMA_BYTES` of schemas, without schemas."""
    kept: list[AgentCard] = []
    size = 0
    for each in agents:
        schemas = [schema for schema in (each.input_schema, each.output_schema) if schema is not None]
        size += sum(len(dumps(schema)) for schema in schemas)
        if size > MAX_SCHEMA_BYTES and schemas:
            each = each.model_copy(update={"input_schema": None, "output_schema": None})
        kept.append(each)
    return tuple(kept)


def has_agent(worker: WorkerCard, agent: str) -> bool:
    """True if a worker has the agent that a task names, or one with the capability that it names."""
    capability = capability_of(agent)
    if capability is None:
        return any(each.name == agent for each in worker.agents)
    return any(capability in each.capabilities for each in worker.agents)


def agents_of(workers: Sequence[WorkerCard]) -> list[dict[str, Json]]:
    """The agents of these workers as `anabranch agents --json` shows them, by name: each with its workers.

    An agent that its workers declare differently, as in the middle of a deployment, has an entry for each
    declaration.
    """
    found: dict[bytes, tuple[AgentCard, list[WorkerCard]]] = {}
    for worker in workers:
        for each in worker.agents:
            found.setdefault(dumps(each.model_dump(mode="json")), (each, []))[1].append(worker)
    entries = sorted(found.values(), key=lambda entry: (entry[0].name, entry[0].version or ""))
    return [
        each.to_document()
        | {
            "workers": sorted(worker.id for worker in having),
            "pools": sorted({worker.pool for worker in having}),
            "slots": sum(worker.slots for worker in having),
        }
        for each, having in entries
    ]


def read_card(value: bytes) -> WorkerCard:
    """The card of a value in the store. Raises pydantic's ValidationError if it is none."""
    return WorkerCard.model_validate_json(value)


def shown_retry(policy: Mapping[str, Any] | None) -> str:
    """A retry policy in a few words, for a table."""
    if not policy or policy.get("strategy", "none") == "none":
        return ""
    most = policy.get("max_attempts")
    return f"{policy['strategy']}, {most} attempts" if most else str(policy["strategy"])
