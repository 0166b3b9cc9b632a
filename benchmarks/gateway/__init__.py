"""Measures a gateway on real servers: submits a second, and how soon many listeners get an event."""
