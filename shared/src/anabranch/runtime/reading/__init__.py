"""Read-only access to stored data: values, contexts, run views, run records, and ranges of the log."""
