"""All tables of the database: import `METADATA` from here wherever the whole schema is meant."""

from __future__ import annotations

from anabranch.adapters.sql import history_tables, task_tables
from anabranch.adapters.sql.metadata import METADATA

# Importing a module of tables adds them to the metadata.
MODULES = (history_tables, task_tables)

__all__ = ["METADATA", "MODULES"]
