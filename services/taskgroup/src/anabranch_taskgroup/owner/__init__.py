"""Connects the decisions of `session` with the log, the store and the workers."""
