"""Builds requests in Python: `WorkflowBuilder`, with tasks as calls or as decorated functions."""
