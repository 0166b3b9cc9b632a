"""How commands show things: tables, live trees, progress, console output."""
