"""The tables of the projector: runs, tasks, attempts, waits, firings, dead letters, audit, search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch.adapters.sql.metadata import DOCUMENT, NAME, TIME

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("history_offsets", sa.Column("incarnation", NAME, server_default="", nullable=False))
    # ### end Alembic commands ###
    _create_attempts()
    _create_audit()
    _create_dead_letters()
    _create_decisions()
    _create_firings()
    _create_numbers()
    _create_runs()
    _create_schedules()
    _create_tasks()
    _create_terms()
    _create_waits()


def downgrade() -> None:
    op.drop_table("history_waits")
    op.drop_table("history_terms")
    op.drop_table("history_tasks")
    op.drop_table("history_schedules")
    op.drop_table("history_runs")
    op.drop_table("history_numbers")
    op.drop_table("history_firings")
    op.drop_table("history_decisions")
    op.drop_table("history_dead_letters")
    op.drop_table("history_audit")
    op.drop_table("history_attempts")
    with op.batch_alter_table("history_offsets") as table:
        table.drop_column("incarnation")


def _create_attempts() -> None:
    op.create_table(
        "history_attempts",
        sa.Column("run_id", NAME, autoincrement=False, nullable=False),
        sa.Column("group", NAME, autoincrement=False, nullable=False),
        sa.Column("task", NAME, autoincrement=False, nullable=False),
        sa.Column("iteration", NAME, autoincrement=False, nullable=False),
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", NAME, nullable=False),
        sa.Column("kept_because", NAME, nullable=False),
        sa.Column("agent", NAME, nullable=True),
        sa.Column("worker", NAME, nullable=True),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=False),
        sa.Column("error_type", NAME, nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("cpu_seconds", TIME, nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("usd", TIME, nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint(
            "run_id", "group", "task", "iteration", "index", "attempt", name=op.f("pk_history_attempts")
        ),
    )


def _create_audit() -> None:
    op.create_table(
        "history_audit",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("actor", NAME, nullable=True),
        sa.Column("role", NAME, nullable=True),
        sa.Column("project", NAME, nullable=True),
        sa.Column("action", NAME, nullable=True),
        sa.Column("run_id", NAME, nullable=True),
        sa.Column("outcome", NAME, nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("remote", NAME, nullable=True),
        sa.PrimaryKeyConstraint("partition", "offset", name=op.f("pk_history_audit")),
    )
    op.create_index("ix_history_audit_time", "history_audit", ["time"], unique=False)


def _create_dead_letters() -> None:
    op.create_table(
        "history_dead_letters",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", NAME, nullable=True),
        sa.Column("code", NAME, nullable=True),
        sa.Column("project", NAME, nullable=True),
        sa.Column("origin", NAME, nullable=True),
        sa.Column("signature", NAME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("run_id", NAME, nullable=True),
        sa.Column("group", NAME, nullable=True),
        sa.Column("task", NAME, nullable=True),
        sa.Column("index", sa.BigInteger(), nullable=True),
        sa.Column("agent", NAME, nullable=True),
        sa.Column("error_type", NAME, nullable=True),
        sa.Column("time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("partition", "offset", name=op.f("pk_history_dead_letters")),
    )
    op.create_index("ix_history_dead_letters_run_id", "history_dead_letters", ["run_id"], unique=False)
    op.create_index("ix_history_dead_letters_signature", "history_dead_letters", ["signature"], unique=False)


def _create_decisions() -> None:
    op.create_table(
        "history_decisions",
        sa.Column("run_id", NAME, autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("group", NAME, nullable=False),
        sa.Column("task", NAME, nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=True),
        sa.Column("decision", NAME, nullable=True),
        sa.Column("by", NAME, nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_history_decisions")),
    )


def _create_firings() -> None:
    op.create_table(
        "history_firings",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("nth", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("schedule", NAME, nullable=True),
        sa.Column("project", NAME, nullable=True),
        sa.Column("type", NAME, nullable=False),
        sa.Column("at", NAME, nullable=True),
        sa.Column("time", TIME, nullable=False),
        sa.Column("source", NAME, nullable=True),
        sa.Column("firing", NAME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("partition", "offset", "nth", name=op.f("pk_history_firings")),
    )
    op.create_index("ix_history_firings_schedule_time", "history_firings", ["schedule", "time"], unique=False)


def _create_numbers() -> None:
    op.create_table(
        "history_numbers",
        sa.Column("name", NAME, autoincrement=False, nullable=False),
        sa.Column("number", TIME, autoincrement=False, nullable=False),
        sa.Column("run_id", NAME, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name", "number", "run_id", name=op.f("pk_history_numbers")),
        sqlite_with_rowid=False,
    )


def _create_runs() -> None:
    op.create_table(
        "history_runs",
        sa.Column("run_id", NAME, autoincrement=False, nullable=False),
        sa.Column("request_id", NAME, nullable=True),
        sa.Column("session_id", NAME, nullable=False),
        sa.Column("project", NAME, nullable=True),
        sa.Column("name", NAME, nullable=True),
        sa.Column("status", NAME, nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("submitted_at", TIME, nullable=True),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("duration", TIME, nullable=True),
        sa.Column("ordered_at", TIME, nullable=False),
        sa.Column("retry_of", NAME, nullable=True),
        sa.Column("parent", NAME, nullable=True),
        sa.Column("definition", NAME, nullable=True),
        sa.Column("schedule", NAME, nullable=True),
        sa.Column("tasks", sa.Integer(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("usd", TIME, nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=True),
        sa.Column("labels", DOCUMENT, nullable=False),
        sa.Column("search", DOCUMENT, nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("view", DOCUMENT, nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_history_runs")),
    )
    op.create_index("ix_history_runs_ordered_at_run_id", "history_runs", ["ordered_at", "run_id"], unique=False)
    op.create_index(
        "ix_history_runs_project_ordered_at_run_id",
        "history_runs",
        ["project", "ordered_at", "run_id"],
        unique=False,
    )
    op.create_index(
        "ix_history_runs_status_ordered_at_run_id",
        "history_runs",
        ["status", "ordered_at", "run_id"],
        unique=False,
    )


def _create_schedules() -> None:
    op.create_table(
        "history_schedules",
        sa.Column("schedule", NAME, autoincrement=False, nullable=False),
        sa.Column("project", NAME, nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("last_type", NAME, nullable=False),
        sa.Column("last_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("schedule", name=op.f("pk_history_schedules")),
    )


def _create_tasks() -> None:
    op.create_table(
        "history_tasks",
        sa.Column("run_id", NAME, autoincrement=False, nullable=False),
        sa.Column("group", NAME, autoincrement=False, nullable=False),
        sa.Column("task", NAME, autoincrement=False, nullable=False),
        sa.Column("status", NAME, nullable=False),
        sa.Column("agent", NAME, nullable=True),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("members", sa.BigInteger(), nullable=True),
        sa.Column("completed", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("attempts_ended", sa.BigInteger(), nullable=False),
        sa.Column("attempts_failed", sa.BigInteger(), nullable=False),
        sa.Column("seconds", TIME, nullable=False),
        sa.Column("usd", TIME, nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "group", "task", name=op.f("pk_history_tasks")),
    )


def _create_terms() -> None:
    op.create_table(
        "history_terms",
        sa.Column("term", NAME, autoincrement=False, nullable=False),
        sa.Column("ordered_at", TIME, autoincrement=False, nullable=False),
        sa.Column("run_id", NAME, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("term", "ordered_at", "run_id", name=op.f("pk_history_terms")),
        sqlite_with_rowid=False,
    )


def _create_waits() -> None:
    op.create_table(
        "history_waits",
        sa.Column("run_id", NAME, autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("group", NAME, nullable=False),
        sa.Column("task", NAME, nullable=False),
        sa.Column("reason", NAME, nullable=False),
        sa.Column("name", NAME, nullable=True),
        sa.Column("members", sa.BigInteger(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("until", TIME, nullable=True),
        sa.Column("approval", DOCUMENT, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("ended_by", NAME, nullable=True),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_history_waits")),
    )
