"""Runs a service as a process: settings, connections, health, logs, supervision, start and stop."""
