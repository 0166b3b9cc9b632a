"""Alembic runs this module: it migrates over the connection that `migrating` passes."""

from __future__ import annotations

from alembic import context

from anabranch.adapters.sql.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
    # SQLite cannot alter most things of a table: Alembic copies the table.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
