"""Expands a task to its members: arrays, matrices and transform rules, computed lazily. Pure."""
