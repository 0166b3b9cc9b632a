"""Migrations of the schema, run by Alembic: `env` runs them, `versions` has one module for each."""
