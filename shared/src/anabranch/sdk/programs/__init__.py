"""Agents that are no Python function: commands that run as a process, a container or a Kubernetes Job."""
