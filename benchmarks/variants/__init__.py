"""What a choice costs: the same measurement with one thing changed, in one run. `python -m variants`."""
