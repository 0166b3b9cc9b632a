"""The history of runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch.adapters.sql.metadata import NAME, TIME

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "history_offsets",
        sa.Column("topic", NAME, nullable=False),
        sa.Column("partition", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("record_time", TIME, nullable=False),
        sa.Column("caught_up_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", name=op.f("pk_history_offsets")),
    )


def downgrade() -> None:
    op.drop_table("history_offsets")
