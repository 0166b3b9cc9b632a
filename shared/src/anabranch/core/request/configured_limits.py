"""The limits of agents and projects that a configuration sets, whatever requests say. Structure only.

The owner of a run selects those that concern it when it starts, and they are on the log with the run: a change
of the configuration changes no decision about a run that has started.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, Field

from anabranch.core.request.document import Document
from anabranch.core.request.fields import Agent, Count, Project
from anabranch.core.request.flow import refusal
from anabranch.core.request.limits import Breaker, LimitKey, RateLimit
from anabranch.core.templates import placeholders


class Places(Document):
    """At most ``limit`` members run at once."""

    key: LimitKey | None = None
    """Of an agent: agents with the same key share the places. Default: the name of the agent."""
    limit: Count


def _without_placeholders(limit: RateLimit | Places) -> RateLimit | Places:
    if limit.key is not None and placeholders(limit.key):
        raise refusal(f"the key {limit.key!r} has placeholders", "a configured key is the same for all members")
    return limit


def _without_key(limit: RateLimit | Places) -> RateLimit | Places:
    if limit.key is not None:
        raise refusal("has a `key`", "leave it out: the limit is of the project, which names no key")
    return limit


class AgentLimits(Document):
    """What the members of an agent share, in all projects."""

    rate_limit: Annotated[RateLimit, AfterValidator(_without_placeholders)] | None = None
    concurrency: Annotated[Places, AfterValidator(_without_placeholders)] | None = None
    breaker: Breaker | None = None
    """In place of the one that the agent declares."""


class ProjectLimits(Document):
    """What all members of a project share."""

    rate_limit: Annotated[RateLimit, AfterValidator(_without_key)] | None = None
    concurrency: Annotated[Places, AfterValidator(_without_key)] | None = None


class RunLimitSet(Document):
    """The configured limits that concern one run."""

    project: ProjectLimits | None = None
    agents: dict[str, AgentLimits] = Field(default_factory=dict)
    """By what tasks name as their agent."""


class ConfiguredLimits(Document):
    """The limits of a configuration, by the name of the agent (or ``capability/NAME``) and by project."""

    agents: dict[Agent, AgentLimits] = Field(default_factory=dict)
    projects: dict[Project, ProjectLimits] = Field(default_factory=dict)

    def of_run(self, project: str, agents: Collection[str]) -> RunLimitSet | None:
        """Those that concern a run of a project whose tasks name these agents; None if there are none."""
        named = {name: limits for name, limits in self.agents.items() if name in agents}
        of_project = self.projects.get(project)
        return RunLimitSet(project=of_project, agents=named) if named or of_project is not None else None
