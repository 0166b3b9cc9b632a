"""The tables of the task registry. Times are seconds since the epoch; ids of tasks and executions are text."""

from __future__ import annotations

import sqlalchemy as sa

from anabranch.adapters.sql.metadata import DOCUMENT, METADATA, NAME, TEXT, TIME

projects = sa.Table(
    "task_projects",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("owner", NAME, nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("description", TEXT, nullable=False),
    sa.Column("created_by", NAME, nullable=False),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Column("metadata", DOCUMENT, nullable=False),
    sa.Index("task_projects_by_time", "owner", "created_at"),
)

tasks = sa.Table(
    "tasks",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("owner", NAME, nullable=False),
    sa.Column("project_id", NAME, sa.ForeignKey("task_projects.id")),
    sa.Column("name", NAME, nullable=False),
    sa.Column("task_type", NAME, nullable=False),
    sa.Column("status", NAME, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("created_by", NAME, nullable=False),
    sa.Column("assigned_to", NAME),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Column("started_at", TIME),
    sa.Column("completed_at", TIME),
    sa.Column("deadline", TIME),
    sa.Column("retry_count", sa.Integer, nullable=False),
    sa.Column("execution_count", sa.Integer, nullable=False),
    sa.Column("is_hidden", sa.Boolean, nullable=False),
    sa.Column("reason", TEXT),
    sa.Column("error_message", TEXT),
    sa.Column("result", DOCUMENT),
    sa.Column("fields", DOCUMENT, nullable=False),
    sa.Index("tasks_by_time", "owner", "created_at", "id"),
    sa.Index("tasks_by_status", "status", "created_at"),
    sa.Index("tasks_by_project", "project_id", "created_at"),
    sa.Index("tasks_by_agent", "assigned_to", "created_at"),
)

task_dependencies = sa.Table(
    "task_dependencies",
    METADATA,
    sa.Column("task_id", NAME, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("depends_on", NAME, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Index("task_dependents", "depends_on", "task_id"),
)

executions = sa.Table(
    "executions",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("task_id", NAME, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("kind", NAME, nullable=False),
    sa.Column("owner", NAME, nullable=False),
    sa.Column("executor_id", NAME),
    sa.Column("wants", NAME, nullable=False),
    sa.Column("status", NAME, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("deadline", TIME),
    sa.Column("scheduled_at", TIME),
    sa.Column("waiting", sa.Integer, nullable=False),
    sa.Column("holds_slot", sa.Boolean, nullable=False),
    sa.Column("run_id", NAME, nullable=False),
    sa.Column("request_id", NAME, nullable=False),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("started_at", TIME),
    sa.Column("completed_at", TIME),
    sa.Column("error_message", TEXT),
    sa.Column("cancel_reason", TEXT),
    sa.Column("reason", TEXT),
    sa.Column("result", DOCUMENT),
    sa.Column("error", DOCUMENT),
    sa.Column("usage", DOCUMENT, nullable=False),
    sa.Column("data", DOCUMENT, nullable=False),
    sa.UniqueConstraint("task_id", "kind", "number"),
    sa.UniqueConstraint("request_id"),
    sa.Index("executions_by_run", "run_id"),
    sa.Index("executions_by_time", "created_at", "id"),
    sa.Index("executions_by_end", "completed_at"),
    sa.Index("executions_by_status", "status", "waiting", "priority", "created_at"),
)
sa.Index(
    "executions_with_slot",
    executions.c.executor_id,
    postgresql_where=executions.c.holds_slot,
    sqlite_where=executions.c.holds_slot,
)

execution_dependencies = sa.Table(
    "execution_dependencies",
    METADATA,
    sa.Column("execution_id", NAME, sa.ForeignKey("executions.id"), primary_key=True),
    sa.Column("depends_on", NAME, sa.ForeignKey("executions.id"), primary_key=True),
    sa.Index("execution_dependents", "depends_on", "execution_id"),
)

task_outbox = sa.Table(
    "task_outbox",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("execution_id", NAME, nullable=False),
    sa.Column("document", DOCUMENT, nullable=False),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("taken_until", TIME, nullable=False),
    sa.Column("published_at", TIME),
    sa.Index("task_outbox_open", "published_at", "taken_until"),
    sa.Index("task_outbox_by_execution", "execution_id"),
)

task_agents = sa.Table(
    "task_agents",
    METADATA,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("agent_type", NAME, nullable=False),
    sa.Column("owner", NAME, nullable=False),
    sa.Column("capabilities", DOCUMENT, nullable=False),
    sa.Column("registered_at", TIME, nullable=False),
)

task_locks = sa.Table("task_locks", METADATA, sa.Column("name", NAME, primary_key=True))
"""Rows that transactions lock: `dispatch` to give slots, so that they are counted by one at a time, and
`dependencies` to change those of tasks that exist."""
