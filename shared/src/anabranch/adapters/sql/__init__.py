"""The SQL database of runs, tasks and executions: SQLite or PostgreSQL, through the Core of SQLAlchemy.

Nothing that decides about a run reads it. Only modules of this package import SQLAlchemy, and a process imports
them only where a database is configured.
"""
