"""Tasks, their dependencies and executions, and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch.adapters.sql.metadata import DOCUMENT, NAME, TIME

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_executions()
    _create_task_agents()
    _create_task_locks()
    _create_task_outbox()
    _create_task_projects()
    _create_execution_dependencies()
    _create_tasks()
    _create_task_dependencies()
    op.execute("INSERT INTO task_locks (name) VALUES ('dependencies'), ('dispatch')")


def downgrade() -> None:
    op.drop_table("task_dependencies")
    op.drop_table("tasks")
    op.drop_table("execution_dependencies")
    op.drop_table("task_projects")
    op.drop_table("task_outbox")
    op.drop_table("task_locks")
    op.drop_table("task_agents")
    op.drop_table("executions")


def _create_executions() -> None:
    op.create_table(
        "executions",
        sa.Column("id", NAME, nullable=False),
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
        sa.Column("error_message", sa.Text),
        sa.Column("cancel_reason", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("result", DOCUMENT),
        sa.Column("error", DOCUMENT),
        sa.Column("usage", DOCUMENT, nullable=False),
        sa.Column("data", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
        sa.UniqueConstraint("request_id", name=op.f("uq_executions_request_id")),
        sa.UniqueConstraint("task_id", "kind", "number", name=op.f("uq_executions_task_id_kind_number")),
    )
    op.create_index("executions_by_end", "executions", ["completed_at"])
    op.create_index("executions_by_run", "executions", ["run_id"])
    op.create_index("executions_by_status", "executions", ["status", "waiting", "priority", "created_at"])
    op.create_index("executions_by_time", "executions", ["created_at", "id"])
    op.create_index(
        "executions_with_slot",
        "executions",
        ["executor_id"],
        postgresql_where=sa.text("holds_slot"),
        sqlite_where=sa.text("holds_slot"),
    )


def _create_task_agents() -> None:
    op.create_table(
        "task_agents",
        sa.Column("id", NAME, nullable=False),
        sa.Column("agent_type", NAME, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("capabilities", DOCUMENT, nullable=False),
        sa.Column("registered_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_agents")),
    )


def _create_task_locks() -> None:
    op.create_table(
        "task_locks",
        sa.Column("name", NAME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_task_locks")),
    )


def _create_task_outbox() -> None:
    op.create_table(
        "task_outbox",
        sa.Column("id", NAME, nullable=False),
        sa.Column("execution_id", NAME, nullable=False),
        sa.Column("document", DOCUMENT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("taken_until", TIME, nullable=False),
        sa.Column("published_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_outbox")),
    )
    op.create_index("task_outbox_by_execution", "task_outbox", ["execution_id"])
    op.create_index("task_outbox_open", "task_outbox", ["published_at", "taken_until"])


def _create_task_projects() -> None:
    op.create_table(
        "task_projects",
        sa.Column("id", NAME, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_projects")),
    )
    op.create_index("task_projects_by_time", "task_projects", ["owner", "created_at"])


def _create_execution_dependencies() -> None:
    op.create_table(
        "execution_dependencies",
        sa.Column("execution_id", NAME, nullable=False),
        sa.Column("depends_on", NAME, nullable=False),
        sa.ForeignKeyConstraint(
            ["depends_on"], ["executions.id"], name=op.f("fk_execution_dependencies_depends_on")
        ),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["executions.id"], name=op.f("fk_execution_dependencies_execution_id")
        ),
        sa.PrimaryKeyConstraint("execution_id", "depends_on", name=op.f("pk_execution_dependencies")),
    )
    op.create_index("execution_dependents", "execution_dependencies", ["depends_on", "execution_id"])


def _create_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", NAME, nullable=False),
        sa.Column("owner", NAME, nullable=False),
        sa.Column("project_id", NAME),
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
        sa.Column("reason", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("result", DOCUMENT),
        sa.Column("fields", DOCUMENT, nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["task_projects.id"], name=op.f("fk_tasks_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index("tasks_by_agent", "tasks", ["assigned_to", "created_at"])
    op.create_index("tasks_by_project", "tasks", ["project_id", "created_at"])
    op.create_index("tasks_by_status", "tasks", ["status", "created_at"])
    op.create_index("tasks_by_time", "tasks", ["owner", "created_at", "id"])


def _create_task_dependencies() -> None:
    op.create_table(
        "task_dependencies",
        sa.Column("task_id", NAME, nullable=False),
        sa.Column("depends_on", NAME, nullable=False),
        sa.ForeignKeyConstraint(["depends_on"], ["tasks.id"], name=op.f("fk_task_dependencies_depends_on")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_task_dependencies_task_id")),
        sa.PrimaryKeyConstraint("task_id", "depends_on", name=op.f("pk_task_dependencies")),
    )
    op.create_index("task_dependents", "task_dependencies", ["depends_on", "task_id"])
