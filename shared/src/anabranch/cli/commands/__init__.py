"""The commands: each parses nothing itself, calls the system, and renders the answer."""
