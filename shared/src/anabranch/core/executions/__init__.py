"""Executions of tasks as workflows: what they are, how they start, and how they show. Pure."""
