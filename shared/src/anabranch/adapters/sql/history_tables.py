"""The tables of the history: what the projector has read of the log.

Every row of a table but `history_offsets` depends on the log alone: a history that is rebuilt has the same rows.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from anabranch.adapters.sql.metadata import DOCUMENT, METADATA, NAME, TEXT, TIME


def _key(name: str, kind: Any = NAME) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


OFFSETS = sa.Table(
    "history_offsets",
    METADATA,
    _key("topic"),
    _key("partition", sa.Integer),
    sa.Column("incarnation", NAME, nullable=False, server_default=""),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("record_time", TIME, nullable=False),
    sa.Column("caught_up_at", TIME, nullable=False),
)
"""How far each partition is projected. `epoch` counts the owners of the partition: a transaction of an earlier
owner changes no row, and is rolled back."""

RUNS = sa.Table(
    "history_runs",
    METADATA,
    _key("run_id"),
    sa.Column("request_id", NAME),
    sa.Column("session_id", NAME, nullable=False),
    sa.Column("project", NAME),
    sa.Column("name", NAME),
    sa.Column("status", NAME, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("submitted_at", TIME),
    sa.Column("started_at", TIME),
    sa.Column("ended_at", TIME),
    sa.Column("duration", TIME),
    sa.Column("ordered_at", TIME, nullable=False),
    sa.Column("retry_of", NAME),
    sa.Column("parent", NAME),
    sa.Column("definition", NAME),
    sa.Column("schedule", NAME),
    sa.Column("tasks", sa.Integer),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("usd", sa.Double),
    sa.Column("tokens", sa.BigInteger),
    sa.Column("labels", DOCUMENT, nullable=False),
    sa.Column("search", DOCUMENT, nullable=False),
    sa.Column("words", TEXT, nullable=False),
    sa.Column("view", DOCUMENT, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Index("ix_history_runs_ordered_at_run_id", "ordered_at", "run_id"),
    sa.Index("ix_history_runs_project_ordered_at_run_id", "project", "ordered_at", "run_id"),
    sa.Index("ix_history_runs_status_ordered_at_run_id", "status", "ordered_at", "run_id"),
)
"""One row for each run. `ordered_at` is its place in lists: when it was submitted. `words` are those of its names
and errors, with a space around each. `view` is its `RunView` without groups, and `state` what the projector
continues with, compressed."""

TASKS = sa.Table(
    "history_tasks",
    METADATA,
    _key("run_id"),
    _key("group"),
    _key("task"),
    sa.Column("status", NAME, nullable=False),
    sa.Column("agent", NAME),
    sa.Column("started_at", TIME),
    sa.Column("ended_at", TIME),
    sa.Column("members", sa.BigInteger),
    sa.Column("completed", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("attempts_ended", sa.BigInteger, nullable=False),
    sa.Column("attempts_failed", sa.BigInteger, nullable=False),
    sa.Column("seconds", TIME, nullable=False),
    sa.Column("usd", sa.Double),
    sa.Column("tokens", sa.BigInteger),
)
"""One row for each task, of a task in a loop for its last iteration; the sums are those of all iterations.
`seconds` is the sum of the durations of attempts."""

ATTEMPTS = sa.Table(
    "history_attempts",
    METADATA,
    _key("run_id"),
    _key("group"),
    _key("task"),
    _key("iteration"),
    _key("index", sa.BigInteger),
    _key("attempt", sa.Integer),
    sa.Column("status", NAME, nullable=False),
    sa.Column("kept_because", NAME, nullable=False),
    sa.Column("agent", NAME),
    sa.Column("worker", NAME),
    sa.Column("started_at", TIME),
    sa.Column("ended_at", TIME, nullable=False),
    sa.Column("error_type", NAME),
    sa.Column("message", TEXT),
    sa.Column("cpu_seconds", sa.Double),
    sa.Column("peak_memory_bytes", sa.BigInteger),
    sa.Column("usd", sa.Double),
    sa.Column("tokens", sa.BigInteger),
)
"""Attempts that ended: those of ordinary tasks, and of members those that failed, were slow, or are a sample.
`index` is -1 for an ordinary task, `iteration` has dots between the numbers of the loops around the task."""

WAITS = sa.Table(
    "history_waits",
    METADATA,
    _key("run_id"),
    _key("seq", sa.BigInteger),
    sa.Column("group", NAME, nullable=False),
    sa.Column("task", NAME, nullable=False),
    sa.Column("reason", NAME, nullable=False),
    sa.Column("name", NAME),
    sa.Column("members", sa.BigInteger, nullable=False),
    sa.Column("since", TIME, nullable=False),
    sa.Column("until", TIME),
    sa.Column("approval", DOCUMENT),
    sa.Column("ended_at", TIME),
    sa.Column("ended_by", NAME),
)
"""Waits of members for a time, a condition, an event, a signal or an approval."""

DECISIONS = sa.Table(
    "history_decisions",
    METADATA,
    _key("run_id"),
    _key("seq", sa.BigInteger),
    sa.Column("group", NAME, nullable=False),
    sa.Column("task", NAME, nullable=False),
    sa.Column("index", sa.BigInteger),
    sa.Column("decision", NAME),
    sa.Column("by", NAME),
    sa.Column("comment", TEXT),
    sa.Column("at", TIME, nullable=False),
)
"""Decisions about approvals."""

FIRINGS = sa.Table(
    "history_firings",
    METADATA,
    _key("partition", sa.Integer),
    _key("offset", sa.BigInteger),
    _key("nth", sa.Integer),
    sa.Column("schedule", NAME),
    sa.Column("project", NAME),
    sa.Column("type", NAME, nullable=False),
    sa.Column("at", NAME),
    sa.Column("time", TIME, nullable=False),
    sa.Column("source", NAME),
    sa.Column("firing", NAME),
    sa.Column("reason", TEXT),
    sa.Index("ix_history_firings_schedule_time", "schedule", "time"),
)
"""What became of the firings of schedules, and their pauses. `firing` is the id of the run."""

SCHEDULES = sa.Table(
    "history_schedules",
    METADATA,
    _key("schedule"),
    sa.Column("project", NAME),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("last_type", NAME, nullable=False),
    sa.Column("last_time", TIME, nullable=False),
)
"""Schedules that had at least one event."""

DEAD_LETTERS = sa.Table(
    "history_dead_letters",
    METADATA,
    _key("partition", sa.Integer),
    _key("offset", sa.BigInteger),
    sa.Column("id", NAME),
    sa.Column("code", NAME),
    sa.Column("project", NAME),
    sa.Column("origin", NAME),
    sa.Column("signature", NAME),
    sa.Column("reason", TEXT),
    sa.Column("run_id", NAME),
    sa.Column("group", NAME),
    sa.Column("task", NAME),
    sa.Column("index", sa.BigInteger),
    sa.Column("agent", NAME),
    sa.Column("error_type", NAME),
    sa.Column("time", TIME, nullable=False),
    sa.Index("ix_history_dead_letters_signature", "signature"),
    sa.Index("ix_history_dead_letters_run_id", "run_id"),
)
"""Dead letters and the decisions about them, by their place in the topic."""

AUDIT = sa.Table(
    "history_audit",
    METADATA,
    _key("partition", sa.Integer),
    _key("offset", sa.BigInteger),
    sa.Column("time", TIME, nullable=False),
    sa.Column("actor", NAME),
    sa.Column("role", NAME),
    sa.Column("project", NAME),
    sa.Column("action", NAME),
    sa.Column("run_id", NAME),
    sa.Column("outcome", NAME),
    sa.Column("detail", TEXT),
    sa.Column("remote", NAME),
    sa.Index("ix_history_audit_time", "time"),
)
"""What callers of the gateway did."""

TERMS = sa.Table(
    "history_terms",
    METADATA,
    _key("term"),
    _key("ordered_at", TIME),
    _key("run_id"),
    sqlite_with_rowid=False,
)
"""An inverted index of runs, in the order of lists for each term; see `core.search_terms`."""

NUMBERS = sa.Table(
    "history_numbers",
    METADATA,
    _key("name"),
    _key("number", sa.Double),
    _key("run_id"),
    sqlite_with_rowid=False,
)
"""Search attributes that are numbers or times, for ranges."""

PROJECTED = (RUNS, TASKS, ATTEMPTS, WAITS, DECISIONS, FIRINGS, SCHEDULES, DEAD_LETTERS, AUDIT, TERMS, NUMBERS)
"""The tables that depend on the log alone."""
