"""Read-only access to what services keep: values, contexts, views, and ranges of a log."""
