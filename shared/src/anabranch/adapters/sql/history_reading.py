"""Reads what the history has of runs beside their views: for its export, and for forecasts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_tables import ATTEMPTS, DECISIONS, RUNS, TASKS, WAITS

PARTS = (TASKS, ATTEMPTS, WAITS, DECISIONS)
MAX_SAMPLES = 1_000
"""Durations of one task that measurements have: the latest."""
VERSION = 1
Document = dict[str, Any]


class HistoryReader:
    """The caller closes the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def parts_of(self, run_ids: Sequence[str]) -> Mapping[str, Document]:
        """For each run its `tasks`, `attempts`, `waits` and `decisions`, as lists of rows in the order of keys."""

        def read(connection: sa.Connection) -> dict[str, Document]:
            names = [table.name.removeprefix("history_") for table in PARTS]
            found: dict[str, Document] = {run_id: {name: [] for name in names} for run_id in run_ids}
            for table, name in zip(PARTS, names, strict=True):
                rows = sa.select(table).where(table.c.run_id.in_(run_ids)).order_by(*table.primary_key)
                for row in connection.execute(rows).mappings():
                    document = {str(column): value for column, value in row.items()}
                    found[document.pop("run_id")][name].append(document)
            return found

        return await self._database.async_read(read)

    async def measurements(self, name: str | None, since: float | None) -> Document:
        """What attempts of tasks took and cost, and how many failed, as the document that forecasts read.

        Args:
            name: of the runs; None for all.
            since: runs that were submitted at or after this time, in seconds since the epoch.
        """
        return await self._database.async_read(lambda connection: _measurements(connection, name, since))


def _measurements(connection: sa.Connection, name: str | None, since: float | None) -> Document:
    wanted: sa.ColumnElement[bool] = RUNS.c.ended_at.is_not(None)
    if name is not None:
        wanted &= RUNS.c.name == name
    if since is not None:
        wanted &= RUNS.c.submitted_at >= since
    tasks: dict[str, Document] = {}
    columns = ("attempts_ended", "attempts_failed")
    sums = sa.select(TASKS.c.group, TASKS.c.task, *(sa.func.sum(TASKS.c[each]).label(each) for each in columns))
    of_runs = sums.join(RUNS, RUNS.c.run_id == TASKS.c.run_id).where(wanted).group_by(TASKS.c.group, TASKS.c.task)
    for row in connection.execute(of_runs):
        if ended := int(row.attempts_ended or 0):
            rate = int(row.attempts_failed or 0) / ended
            found = {"attempts": ended, **({"failure_rate": rate} if rate else {})}
            samples = _samples(connection, wanted, row.group, row.task)
            tasks[f"{row.group}/{row.task}"] = found | samples
    return {"version": VERSION, "agents": {}, "tasks": dict(sorted(tasks.items()))}


def _samples(connection: sa.Connection, wanted: Any, group: str, task: str) -> Document:
    of_task = (ATTEMPTS.c.group == group) & (ATTEMPTS.c.task == task) & ATTEMPTS.c.started_at.is_not(None)
    rows = sa.select(ATTEMPTS).join(RUNS, RUNS.c.run_id == ATTEMPTS.c.run_id).where(wanted & of_task)
    # A slow member was kept because it was slow: as a sample it would count for too much.
    rows = rows.where(ATTEMPTS.c.kept_because != "slow").order_by(ATTEMPTS.c.ended_at.desc()).limit(MAX_SAMPLES)
    values: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, int] = defaultdict(int)
    for row in connection.execute(rows).mappings():
        failed = row["status"] == "failed"
        values["failed_seconds" if failed else "seconds"].append(max(0.0, row["ended_at"] - row["started_at"]))
        for name in ("usd", "tokens"):
            if row[name] is not None:
                values[name].append(float(row[name]))
        if failed and row["error_type"]:
            errors[row["error_type"]] += 1
    total = sum(errors.values())
    shares = {"errors": {name: count / total for name, count in sorted(errors.items())}} if total else {}
    return {**values, **shares}
