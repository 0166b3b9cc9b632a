"""Measures the cost of design choices: the same measurement with one thing changed. `python -m variants`."""
