"""Models of the responses about live workers and their agents."""

from __future__ import annotations

from typing import Any

from pydantic import Field, RootModel

from anabranch_gateway.api.models import OpenModel, Seconds


class WorkerLoad(OpenModel):
    chunks: int = Field(description="Chunks that the worker has claimed")
    members: int = Field(description="Members that run")


class WorkerDocument(OpenModel):
    id: str
    host: str
    pid: int
    version: str
    pool: str
    slots: int = Field(description="Members that may run at once")
    started_at: Seconds | None
    draining: bool
    load: WorkerLoad
    offers: dict[str, Any] = Field(description="What it offers to tasks with `requires`")
    used: dict[str, str] = Field(description="What its members hold of that")
    agents: list[str]


class WorkerList(OpenModel):
    workers: list[WorkerDocument]


class LevelBacklog(OpenModel):
    level: str
    members: int = Field(description="Members that have not begun")
    seconds: float = Field(description="Predicted seconds of work of all members that have not ended")
    unmeasured: int = Field(description="Members of tasks without a measured member, which are not in `seconds`")


class PoolBacklog(OpenModel):
    pool: str
    workers: int = Field(description="Live workers that take members")
    draining: int = Field(description="Live workers that take none, because they stop")
    slots: int = Field(description="Members that may run at once")
    slots_used: int
    idle: list[str] = Field(description="Workers that hold no member: stop these first")
    members: int = Field(description="Members that have not begun")
    seconds: float = Field(description="Predicted seconds of work of all members that have not ended")
    unmeasured: int = Field(description="Members of tasks without a measured member, which are not in `seconds`")
    work_seconds: float = Field(description="`seconds`, and `member_seconds` for each of `unmeasured`")
    worker_seconds: float = Field(
        description="`work_seconds` divided by the slots of one worker of the pool: how long it needs alone"
    )
    levels: list[LevelBacklog]


class Backlog(OpenModel):
    pools: list[PoolBacklog]


class AnyBacklog(RootModel[PoolBacklog | Backlog]):
    """With the parameter `pool` that pool, else all pools."""


class LimitDocument(OpenModel):
    kind: str = Field(description="`concurrency`, `run_concurrency`, `rate` or `breaker`")
    project: str
    key: str = Field(description="Of a breaker the name of the agent")
    scope: str = Field(description="`key`; `agent` or `project` of a limit that is configured for one")
    limit: int
    held: int = Field(description="Members, or runs, that hold it")
    waiting: int = Field(description="Members, or runs, that wait for it")
    holders: list[dict[str, Any]]
    queue: list[dict[str, Any]] = Field(description="Those that wait, the next one first")


class LimitList(OpenModel):
    limits: list[LimitDocument]


class BreakerDocument(OpenModel):
    agent: str
    action: str


class AgentSchemas(OpenModel):
    input: dict[str, Any] | None
    output: dict[str, Any] | None


class AgentDocument(OpenModel):
    name: str
    version: str | None
    kind: str = Field(description="`in-process`, or of a program: `process`, `container` or `kubernetes`")
    program: dict[str, Any] | None = Field(
        default=None, description="Of a program: `image`, `command`, `arguments` (their number), `namespace`"
    )
    capabilities: list[str]
    schema_: AgentSchemas = Field(alias="schema")
    retry: dict[str, Any] | None
    timeout: float | None
    max_concurrency: int | None
    workers: list[str]
    pools: list[str]
    slots: int


class AgentList(OpenModel):
    agents: list[AgentDocument]
