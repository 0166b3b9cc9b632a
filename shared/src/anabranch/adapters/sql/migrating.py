"""Migrates the schema with Alembic."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

SCRIPTS = Path(__file__).parent / "migrations"


def configuration(connection: sa.Connection) -> Config:
    """Alembic's configuration for the migrations of this package, over an open transaction."""
    config = Config()
    # Alembic interpolates the value.
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(connection: sa.Connection) -> None:
    """Run the migrations that the database lacks, in the transaction of `connection`."""
    command.upgrade(configuration(connection), "head")
