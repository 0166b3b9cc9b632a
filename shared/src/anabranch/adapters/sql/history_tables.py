"""The tables of the history: what the projector has read of the log."""

from __future__ import annotations

import sqlalchemy as sa

from anabranch.adapters.sql.metadata import METADATA, NAME, TIME

OFFSETS = sa.Table(
    "history_offsets",
    METADATA,
    sa.Column("topic", NAME, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("record_time", TIME, nullable=False),
    sa.Column("caught_up_at", TIME, nullable=False),
)
"""How far each partition is projected. `epoch` counts the owners of the partition: a transaction of an earlier
owner changes no row, and is rolled back."""
