"""Converts pipelines of other systems into requests. Pure."""
