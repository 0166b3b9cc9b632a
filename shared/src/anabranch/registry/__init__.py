"""The registry of tasks and executions: rows of the database, and the steward that runs them."""
