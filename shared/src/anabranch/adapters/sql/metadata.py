"""The metadata that all tables share, and the column types that are equal on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Modules of tables add theirs to it; `schema` imports all of them."""

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""An id or a name. It sorts by code points on both databases, so that pages by key are the same."""
TEXT = sa.Text()
TIME: sa.Double[float] = sa.Double()
"""Seconds since the epoch, as everywhere."""


class _Document(sa.JSON):
    """JSON in a column of text."""

    cache_ok = True


@compiles(_Document, "sqlite")
def _column_type(_type: _Document, _compiler: Any, **_: Any) -> str:
    # SQLite does not know the type JSON. In a column of it, a document that is a number is stored as a number: 1.0
    # as 1, and one of more than 64 bits rounded.
    return "TEXT"


DOCUMENT = _Document(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
"""A JSON value. An absent value is SQL's NULL."""
