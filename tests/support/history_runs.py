"""Runs as rows of the history, without a log: for tests of its search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from anabranch.adapters.sql import bulk
from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_tables import NUMBERS, RUNS, TERMS
from anabranch.core.search_terms import terms_of
from anabranch.core.wire.run_view import RunView
from anabranch_eventmanager.projection.history.run_rows import run_row

STATUSES = ("completed", "completed", "completed", "failed", "running", "cancelled")
TEAMS = ("a", "b", "é:ü", 'quoted "team"')
ERRORS = ("", "", "ConnectionError: the host db-7 timed out", "ValueError: no such order", "x" * 70)


def view_of(number: int) -> RunView:
    """A run; the fields of runs with different numbers differ in period."""
    status, error = STATUSES[number % len(STATUSES)], ERRORS[number % len(ERRORS)]
    kind, _, message = error.partition(": ")
    failures = [{"error_type": kind, "message": message}] if error and status == "failed" else []
    search: dict[str, Any] = {"size": number % 7 * 1.5, "urgent": number % 3 == 0, "region": f"eu-{number % 4}"}
    return RunView(
        run_id=f"run-{number:07}",
        request_id=None if number % 11 == 0 else f"Order {number}",
        session_id=f"s-{number % 50}",
        name=None if number % 13 == 0 else f"job {number % 9}",
        labels={"team": TEAMS[number % 4]} if number % 5 else {"a:b": "c", "empty": ""},
        status=status,
        submitted_at=1_000.0 + number // 3,
        started_at=None if number % 17 == 0 else 1_001.0 + number // 3,
        ended_at=None if status == "running" else 1_002.5 + number % 100,
        last_fact_at=1_003.0 + number,
        retry_of="run-0000001" if number % 19 == 0 else None,
        project="default" if number % 4 else "other",
        tasks_total=number % 6,
        failures=failures,
        failure_count=len(failures),
        costs={"usd": number % 8 / 4, "tokens": number % 1000} if number % 2 else None,
        definition={"name": "nightly", "version": "1", "hash": "h"} if number % 23 == 0 else None,
        search=search if number % 6 else {"size": str(number % 3), "note": None},
    )


def put(database: Database, views: Sequence[RunView]) -> list[dict[str, Any]]:
    """Put the rows and terms of runs into the history; returns the rows."""
    found = [run_row(view) for view in views]

    def write(connection: sa.Connection) -> None:
        bulk.put(connection, RUNS, [row | {"state": b""} for row in found])
        terms = [
            {"term": term, "ordered_at": row["ordered_at"], "run_id": row["run_id"]}
            for row in found
            for term in sorted(terms_of(row))
        ]
        bulk.put(connection, TERMS, terms)
        numbers = [
            {"name": name, "number": float(value), "run_id": row["run_id"]}
            for row in found
            for name, value in row["search"].items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        bulk.put(connection, NUMBERS, numbers)

    database.write(write)
    return found
