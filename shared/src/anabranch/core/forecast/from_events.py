"""Measures attempts from the lifecycle events of runs that have ended. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from anabranch.core.forecast.measured import DEFAULT_LATENCY, KnownMeasurements, Measured
from anabranch.core.forecast.samples import Samples, quantile

_ENDS = {"task.completed": False, "task.failed": True, "task.retrying": True}
_Attempt = tuple[Any, ...]


@dataclass(slots=True)
class _Task:
    """The events of one task, in all runs."""

    completed: list[float] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    members: list[float] = field(default_factory=list)
    iterations: Counter[str] = field(default_factory=Counter)
    """By run."""
    skipped: set[str] = field(default_factory=set)
    """Runs."""

    def measured(self, runs: int) -> Measured:
        attempts = len(self.completed) + len(self.failed)
        failures = sum(self.errors.values())
        return Measured(
            attempts=attempts,
            seconds=_samples(self.completed or self.failed),
            failed_seconds=_samples(self.failed if self.completed else ()),
            failure_rate=len(self.failed) / attempts if attempts else 0.0,
            errors={name: count / failures for name, count in sorted(self.errors.items())},
            members=_samples(self.members),
            iterations=_samples(self.iterations.values()),
            skip_rate=len(self.skipped) / runs if self.skipped and runs else None,
        )


class EventMeasurer:
    """Takes the documents of events, as `--events-file` and `anabranch events --json` write them, in the order of
    each run. An attempt whose start was not seen is not measured."""

    def __init__(self) -> None:
        self._tasks: defaultdict[str, _Task] = defaultdict(_Task)
        self._starts: dict[_Attempt, float] = {}
        self._expanded: dict[tuple[str, str], float] = {}
        self._latencies: list[float] = []
        self._runs: set[str] = set()

    @property
    def runs(self) -> int:
        """The number of runs that events were seen of."""
        return len(self._runs)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take an event. Raises ValueError if it is none."""
        kind, run, task = event.get("type"), event.get("run_id"), event.get("task")
        if not isinstance(kind, str) or not isinstance(run, str):
            raise ValueError("is not an event: it has no type and run_id")
        self._runs.add(run)
        if not isinstance(task, str):
            return
        label = f"{event.get('group')}/{task}"
        found = self._tasks[label]
        match kind:
            case "task.started":
                self._started(label, event)
            case "task.completed" | "task.failed" | "task.retrying":
                self._ended(label, event, is_failed=_ENDS[kind])
            case "task.expanded":
                found.members.append(float(event.get("count") or 0))
                self._expanded[run, label] = _seconds(event)
            case "iteration.started":
                found.iterations[run] += 1
            case "task.skipped" if event.get("index") is None:
                found.skipped.add(run)

    def _started(self, label: str, event: Mapping[str, Any]) -> None:
        at = _seconds(event)
        self._starts[_attempt(label, event)] = at
        expanded = self._expanded.pop((event["run_id"], label), None)
        if expanded is not None:
            self._latencies.append(max(0.0, at - expanded))

    def _ended(self, label: str, event: Mapping[str, Any], *, is_failed: bool) -> None:
        began = self._starts.pop(_attempt(label, event), None)
        if began is None:
            return
        seconds = max(0.0, _seconds(event) - began)
        found = self._tasks[label]
        (found.failed if is_failed else found.completed).append(seconds)
        if is_failed and isinstance(event.get("error_type"), str):
            found.errors[event["error_type"]] += 1

    def measurements(self) -> KnownMeasurements:
        """What was measured, by task: events do not name agents."""
        latency = quantile(sorted(self._latencies), 0.5) if self._latencies else DEFAULT_LATENCY
        found = {label: each.measured(self.runs) for label, each in self._tasks.items()}
        return KnownMeasurements(tasks=found, latency=latency)


def _samples(values: Iterable[float]) -> Samples | None:
    found = list(values)
    return Samples(found) if found else None


def _attempt(label: str, event: Mapping[str, Any]) -> _Attempt:
    iteration = event.get("iteration")
    number = tuple(iteration) if isinstance(iteration, list) else iteration
    return event["run_id"], label, event.get("index"), event.get("attempt"), number


def _seconds(event: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(event["time"]).timestamp()
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the time of an event is not a timestamp: {event.get('time')!r}") from error
