"""Output of commands: tables, live trees, progress, console lines."""
