"""Models of the responses about live workers and their agents."""

from __future__ import annotations

from typing import Any

from pydantic import Field

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


class AgentSchemas(OpenModel):
    input: dict[str, Any] | None
    output: dict[str, Any] | None


class AgentDocument(OpenModel):
    name: str
    version: str | None
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
