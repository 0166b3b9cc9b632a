"""Explains why a run does not end: folds its state out of the log, then looks for what blocks each task."""
