"""Rebuilds the store from the log."""
