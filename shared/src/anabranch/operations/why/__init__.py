"""Explains why a run does not end: replays the log to get its state, then finds what blocks each task."""
