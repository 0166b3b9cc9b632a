"""What is known of the attempts of agents and tasks before a forecast, and the document that says it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from anabranch.core.forecast.samples import Samples

VERSION = 1
DEFAULT_LATENCY = 0.03
"""Seconds from the end of a task to the start of one that waits for it, where it was not measured: what an idle
installation takes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The attempts of an agent or a task, as they were.

    Attributes:
        attempts: how many were measured.
        seconds: durations of attempts; with `failed_seconds`, of those that did not fail.
        failed_seconds: durations of failed attempts; None: as the others.
        failure_rate: the share of attempts that failed.
        errors: the names of error types, with their shares of the failed attempts.
        usd, tokens: what an attempt used.
        members: into how many members the task was expanded.
        iterations: how many iterations the loop had.
        skip_rate: the share of runs in which the task was skipped although nothing had failed before.
    """

    attempts: int = 0
    seconds: Samples | None = None
    failed_seconds: Samples | None = None
    failure_rate: float = 0.0
    errors: Mapping[str, float] = field(default_factory=dict)
    usd: Samples | None = None
    tokens: Samples | None = None
    members: Samples | None = None
    iterations: Samples | None = None
    skip_rate: float | None = None

    def to_document(self) -> dict[str, Any]:
        """As in the document of measurements; `read_measured` reads it."""
        samples = {name: found.to_document() for name in _SAMPLED if (found := getattr(self, name)) is not None}
        plain = {
            "failure_rate": self.failure_rate or None,
            "errors": dict(self.errors) or None,
            "skip_rate": self.skip_rate,
        }
        return {"attempts": self.attempts, **samples, **{name: v for name, v in plain.items() if v is not None}}


_SAMPLED = ("seconds", "failed_seconds", "usd", "tokens", "members", "iterations")
_SHARES = ("failure_rate", "skip_rate")
_FIELDS = frozenset({"attempts", "errors", *_SAMPLED, *_SHARES})


class Measurements(Protocol):
    """Where a forecast looks up what was measured: a file, the events of runs, a history."""

    @property
    def latency(self) -> float:
        """Seconds from the end of a task to the start of one that waits for it."""

    def of_task(self, group: str, task: str, agent: str) -> Measured | None:
        """What was measured of a task of this workflow, or else of its agent; None if there is neither.

        Args:
            agent: empty for a step without one, such as a wait.
        """


@dataclass(frozen=True, slots=True)
class KnownMeasurements:
    """Measurements in memory, by agent and by `group/task`. Those of a task have precedence, each field for
    itself."""

    agents: Mapping[str, Measured] = field(default_factory=dict)
    tasks: Mapping[str, Measured] = field(default_factory=dict)
    latency: float = DEFAULT_LATENCY

    def of_task(self, group: str, task: str, agent: str) -> Measured | None:
        """As in `Measurements`."""
        of_task, of_agent = self.tasks.get(f"{group}/{task}"), self.agents.get(agent)
        if of_task is None or of_agent is None:
            return of_agent if of_task is None else of_task
        return _merged(of_task, of_agent)

    def to_document(self) -> dict[str, Any]:
        """The document that `read_measurements` reads."""
        return {
            "version": VERSION,
            "latency": self.latency,
            "agents": {name: each.to_document() for name, each in sorted(self.agents.items())},
            "tasks": {name: each.to_document() for name, each in sorted(self.tasks.items())},
        }


def _merged(of_task: Measured, of_agent: Measured) -> Measured:
    """A task has its own numbers of members and iterations even where only its agent's attempts were measured."""
    attempts = of_agent if of_task.seconds is None else of_task
    return Measured(
        attempts.attempts,
        attempts.seconds,
        attempts.failed_seconds,
        attempts.failure_rate,
        attempts.errors,
        of_task.usd or of_agent.usd,
        of_task.tokens or of_agent.tokens,
        of_task.members or of_agent.members,
        of_task.iterations,
        of_task.skip_rate,
    )


def read_measurements(document: object) -> KnownMeasurements:
    """Measurements from their document.

    Raises:
        ValueError: it has another form; the message says where.
    """
    top = _object(document, "the document")
    if top.get("version") != VERSION:
        raise ValueError(f"`version` is not {VERSION}")
    if unknown := sorted(top.keys() - {"version", "latency", "agents", "tasks"}):
        raise ValueError(f"unknown field {unknown[0]!r}")
    latency = _number(top.get("latency", DEFAULT_LATENCY), "latency")
    agents, tasks = (
        {name: read_measured(each, f"{kind}.{name}") for name, each in _object(top.get(kind, {}), kind).items()}
        for kind in ("agents", "tasks")
    )
    return KnownMeasurements(agents, tasks, latency)


def read_measured(document: object, where: str) -> Measured:
    """What was measured of one agent or task. Raises ValueError."""
    fields = _object(document, where)
    if unknown := sorted(fields.keys() - _FIELDS):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}")
    found: dict[str, Any] = {}
    for name in _SAMPLED:
        if fields.get(name) is not None:
            found[name] = _samples(fields[name], f"{where}.{name}")
    for name in _SHARES:
        if fields.get(name) is not None:
            found[name] = _share(fields[name], f"{where}.{name}")
    if fields.get("errors"):
        found["errors"] = _errors(fields["errors"], f"{where}.errors")
    return Measured(attempts=int(_number(fields.get("attempts", 1), f"{where}.attempts")), **found)


def _samples(value: object, where: str) -> Samples:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f"{where} is empty")
    return Samples(_number(each, where) for each in values)


def _errors(value: object, where: str) -> Mapping[str, float]:
    shares = {name: _share(share, f"{where}.{name}") for name, share in _object(value, where).items()}
    if sum(shares.values()) > 1 + 1e-6:
        raise ValueError(f"{where}: the shares add up to more than 1")
    return shares


def _share(value: object, where: str) -> float:
    number = _number(value, where)
    if number > 1:
        raise ValueError(f"{where} is not a share from 0 to 1")
    return number


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e15:
        raise ValueError(f"{where} is not a number of 0 or more")
    return float(value)


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is not an object")
    return value
