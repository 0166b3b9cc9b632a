"""The process of a service: settings, connections, health, logs, supervision, start and stop."""
