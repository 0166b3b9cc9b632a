"""A snapshot of runs, consumer groups, workers and dead letters for `top`, and the order of its rows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from anabranch.cli.render.rates import RateMeter
from anabranch.cli.render.tables import timestamp
from anabranch.core.progress import share_of_run
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.waiting import waits_for
from anabranch.core.wire.run_view import RunView


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. `total` counts the executions known so far, `share` is the completed share, `rate` is members per
    second; None if not known."""

    run_id: str
    request_id: str
    session_id: str
    name: str
    labels: Mapping[str, str]
    project: str
    status: str
    submitted_at: float | None
    seconds: float | None
    total: int
    done: int
    failed: int
    running: int
    share: float | None
    rate: float | None
    waits: str | None
    """The missing worker or agent that the run waits for."""
    view: RunView

    @property
    def is_open(self) -> bool:
        return not self.view.has_ended

    def matches(self, text: str) -> bool:
        """True if a name, an id, the status, the project or a label contains the text, in any case."""
        labels = (f"{key}={value}" for key, value in self.labels.items())
        words = (self.name, self.run_id, self.request_id, self.session_id, self.status, self.project, *labels)
        return text.lower() in "\n".join(words).lower()

    def to_document(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "request_id": self.request_id,
            "name": self.name,
            "project": self.project,
            "status": self.status,
            "submitted_at": timestamp(self.submitted_at),
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "executions": {
                "total": self.total,
                "done": self.done,
                "failed": self.failed,
                "running": self.running,
            },
            "share": self.share,
            "waits_for": self.waits,
            "rate": None if self.rate is None else round(self.rate, 1),
            **({} if self.view.costs is None else {"costs": self.view.costs}),
        }


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One consumer group on its topic. `lag` is its number of unread records, `members` its number of processes
    (None: not known)."""

    group: str
    topic: str
    lag: int
    members: int | None


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """Open dead letters of one kind of failure."""

    signature: str
    count: int
    error: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of a system at one time. `workers`: whether each worker that recently started a member is alive."""

    at: float
    runs: Sequence[RunRow] = ()
    groups: Sequence[GroupRow] = ()
    workers: Mapping[str, bool] | None = None
    dead_letters: Sequence[DeadLetterRow] = ()

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The failures in the views of these runs, the latest first."""
        failures = [{"run_id": run.run_id, **failure} for run in self.runs for failure in run.view.failures]
        return sorted(failures, key=lambda failure: failure.get("time") or 0.0, reverse=True)

    def to_document(self, runs: Sequence[RunRow]) -> dict[str, Any]:
        """The document of `top --json` with the given runs."""
        return {
            "time": timestamp(self.at),
            "runs": [run.to_document() for run in runs],
            "workers": [{"id": worker, "alive": alive} for worker, alive in (self.workers or {}).items()],
            "lag": [
                {"group": row.group, "topic": row.topic, "lag": row.lag, "members": row.members}
                for row in self.groups
            ],
            "dead_letters": {
                "open": sum(row.count for row in self.dead_letters),
                "kinds": [
                    {"signature": row.signature, "count": row.count, "error": row.error}
                    for row in self.dead_letters
                ],
            },
            "failures": [{**each, "time": timestamp(each.get("time"))} for each in self.failures[:20]],
        }


def row_of(view: RunView, now: float, rates: RateMeter) -> RunRow:
    """The row of a run. `now` is in seconds since the epoch; `rates` keeps samples of earlier snapshots."""
    tasks = [task for _, _, task in view.tasks()]
    done = sum(task.ended for task in tasks)
    submitted, ended = view.submitted_at, view.ended_at
    rate = rates.add_sample(view.run_id, now, done).per_second if ended is None else None
    return RunRow(
        run_id=view.run_id,
        request_id=view.request_id or "",
        session_id=view.session_id,
        name=view.name or "",
        labels=view.labels,
        project=view.project or DEFAULT_PROJECT,
        status=view.shown_status,
        submitted_at=submitted,
        seconds=None if submitted is None else max(0.0, (now if ended is None else ended) - submitted),
        total=sum(1 if task.members is None else task.members for task in tasks),
        done=done,
        failed=sum(task.failed for task in tasks),
        running=sum(task.running for task in tasks),
        share=share_of_run(view),
        rate=rate,
        waits=waits_for(view, now),
        view=view,
    )


# --- order ----------------------------------------------------------------------------------------------


class Sort(StrEnum):
    """Order of the runs, as `--sort` takes it."""

    NEWEST = "newest"
    NAME = "name"
    STATUS = "status"
    DONE = "done"
    RATE = "rate"
    FAILED = "failed"
    TIME = "time"

    def next(self) -> Sort:
        """The next order; the first one after the last."""
        every = list(Sort)
        return every[(every.index(self) + 1) % len(every)]


_KEYS: Mapping[Sort, Callable[[RunRow], Any]] = {
    Sort.NEWEST: lambda row: (not row.is_open, -(row.submitted_at or 0.0)),
    Sort.NAME: lambda row: row.name.lower(),
    Sort.STATUS: lambda row: row.status,
    Sort.DONE: lambda row: row.share or 0.0,
    Sort.RATE: lambda row: -(row.rate or 0.0),
    Sort.FAILED: lambda row: -row.failed,
    Sort.TIME: lambda row: -(row.seconds or 0.0),
}


def select_rows(rows: Sequence[RunRow], sort: Sort, text: str = "", open_only: bool = False) -> list[RunRow]:
    """Filter and sort rows. Sort.NEWEST puts open runs first."""
    kept = [row for row in rows if row.matches(text) and (row.is_open or not open_only)]
    return sorted(kept, key=_KEYS[sort])
