"""Measures how long a new owner takes to restore a partition with many runs that are open and idle."""
