"""Metrics and traces of a process, and the ids that connect log lines with runs."""
