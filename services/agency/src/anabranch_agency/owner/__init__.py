"""Connects the decisions of `run` with the log and the store."""
